import pytest
import torch
from theory.given import MU, N, P, RHO, WORLD, apart, random_law

from lit_rlhf.errors import InputError
from lit_rlhf.theory.boltzmann import log_target
from lit_rlhf.theory.closed_forms import preferences
from lit_rlhf.theory.residual import bradley_terry, edge_weights, independent, label_gradient

BASE, OWN = WORLD.log_base, bradley_terry(WORLD.reward)


@pytest.mark.parametrize("p", [OWN, P, preferences.smoothed(OWN, 0.2)])
def test_zermelo_balances_wins_with_expected_wins(p):
    law = preferences.zermelo(RHO, p, 0.6, BASE)
    assert float(label_gradient(law.log(), RHO, p, 0.6, BASE).abs().max()) < 1e-12


def test_a_cycle_of_hard_labels_has_a_finite_and_wrong_minimiser():
    cycle = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]], dtype=torch.float64)
    law = preferences.zermelo(torch.ones(3, 3, dtype=torch.float64), cycle, 0.6)
    assert apart(law, torch.full((3,), 1 / 3, dtype=torch.float64)) < 1e-12


def test_labels_without_a_finite_minimiser_are_refused():
    order = (WORLD.reward[:, None] > WORLD.reward).double() + 0.5 * torch.eye(N)
    with pytest.raises(InputError, match="strongly connected"):
        preferences.zermelo(RHO, order, 0.6)
    parts = torch.tensor([0, 0, 0, 1, 1, 1])
    with pytest.raises(InputError, match="strongly connected"):
        preferences.zermelo(RHO * (parts[:, None] == parts), OWN, 0.6)
    with pytest.raises(InputError, match="outside"):
        preferences.zermelo(RHO, preferences.denoised(OWN, 0.3), 0.6)
    with pytest.raises(InputError, match="2 groups"):
        preferences.ipo(RHO * (parts[:, None] == parts), OWN, 0.6)


def test_a_noise_model_undoes_smoothing():
    assert apart(preferences.denoised(preferences.smoothed(OWN, 0.2), 0.2), OWN) < 1e-15


def test_labels_implied_by_wins_are_those_that_made_them():
    density = edge_weights(RHO) * P
    found = preferences.implied_labels(density)
    assert apart(found, P) < 1e-14
    nowhere = preferences.implied_labels(torch.zeros(2, 2, dtype=torch.float64))
    assert nowhere.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_the_ratio_of_winners_to_losers_is_a_bradley_terry_reward():
    winners, losers = random_law(1, N), random_law(2, N)
    density = torch.outer(winners, losers)
    found = preferences.zermelo(density, preferences.implied_labels(density), 0.6, BASE)
    assert apart(found, preferences.data_ratio(winners, losers, 0.6, BASE)) < 1e-12


def test_without_a_bonus_exploring_is_the_target():
    assert apart(preferences.exploring(WORLD.reward, 0.6, 0.0, BASE), log_target(WORLD.reward, 0.6, BASE).exp()) < 1e-14
    moved = preferences.exploring(WORLD.reward, 0.6, 0.01, BASE).log() - log_target(WORLD.reward, 0.6, BASE)
    assert float(BASE.exp() @ moved) < -1e-4


def test_ipo_on_independent_pairs_is_boltzmann_in_the_win_rate():
    expected = log_target(preferences.win_rate(P, MU), 0.6, BASE).exp()
    assert apart(preferences.ipo(independent(MU), P, 0.6, BASE), expected) < 1e-12


@pytest.mark.parametrize("tau", [0.02, 0.3, 5.0])
def test_no_policy_beats_the_regularised_equilibrium(tau):
    law = preferences.regularised_nash(P, tau, BASE)
    best = log_target(preferences.win_rate(P, law), tau, BASE).exp()
    assert apart(law, best) < 1e-10
    assert float(law @ P @ law) == pytest.approx(0.5)


def test_twice_the_win_rate_sums_to_one():
    assert float(preferences.nca_pair(P, BASE).sum()) == pytest.approx(1)
