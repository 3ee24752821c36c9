import pytest
import torch
from theory.given import MU, N, RHO, WORLD, apart, random_law

from lit_rlhf.theory import rates
from lit_rlhf.theory.boltzmann import log_target
from lit_rlhf.theory.residual import bradley_terry, differences, margins


def test_the_spectrum_leaves_out_the_constant_direction_alone():
    hessian = rates.rda_hessian(RHO, 0.7)
    values = torch.linalg.eigvalsh(hessian)
    assert abs(float(values[0])) < 1e-15
    assert apart(rates.spectrum(hessian), values[1:]) < 1e-14
    indefinite = differences(WORLD.reward).cosh()
    assert len(rates.spectrum(indefinite)) == N - 1


def test_a_disconnected_graph_does_not_contract():
    parts = torch.tensor([0, 0, 0, 1, 1, 1])
    hessian = rates.rda_hessian(RHO * (parts[:, None] == parts), 0.7)
    assert rates.contraction(hessian, rates.largest_step(hessian)) == pytest.approx(1)
    assert rates.condition(hessian) > 1e12


def test_at_the_largest_step_the_contraction_is_by_the_condition_number():
    hessian = rates.pra_hessian(RHO, bradley_terry(WORLD.reward), 0.7)
    contraction = rates.contraction(hessian, rates.largest_step(hessian))
    assert contraction == pytest.approx(1 - 1 / rates.condition(hessian))


def test_ra_on_the_target_is_tau_times_the_objective():
    target = log_target(WORLD.reward, 0.7, WORLD.log_base).exp()
    assert apart(rates.ra_hessian(target, target, 0.7), 0.7 * rates.bda_hessian(target, 0.7)) < 1e-15
    assert apart(rates.ra_hessian(target, MU, 0.7), 0.7 * rates.bda_hessian(target, 0.7)) > 1e-3


@pytest.mark.parametrize(
    "design",
    [rates.uniform_pairs(N), rates.inverse_variance(WORLD.reward), rates.inverse_slope(margins(WORLD.log_base, 0.7))],
)
def test_designs_are_laws_of_pairs_of_different_responses(design):
    assert float(design.sum()) == pytest.approx(1) and float(design.diagonal().abs().max()) == 0
    assert apart(design, design.T) < 1e-14


def test_at_the_target_both_designs_of_labels_agree():
    target = log_target(WORLD.reward, 0.7, WORLD.log_base)
    by_margin = rates.inverse_slope(margins(target, 0.7, WORLD.log_base))
    assert apart(by_margin, rates.inverse_variance(WORLD.reward)) < 1e-14


def test_the_global_rate_is_never_better_than_the_local_one():
    for seed in range(5):
        rho, p = random_law(seed, N, N), bradley_terry(WORLD.reward)
        local = rates.contraction(rates.pra_hessian(rho, p, 0.7), 1.0)
        assert local < rates.global_contraction(rho, WORLD.reward, 0.7, 1.0) < 1
    assert rates.bandit_time(0.5, 2.0, 100) == pytest.approx(1 / 200)
