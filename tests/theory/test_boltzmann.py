import pytest
import torch
from theory.given import MU, THETA, WORLD, apart, forms, temperatures

from lit_rlhf.theory import boltzmann


@temperatures
@forms
def test_the_target_maximises_the_objective_by_exactly_the_kl(tau, world):
    given = (world.reward, tau, world.log_base)
    target, pi = boltzmann.log_target(*given), THETA.log_softmax(-1)
    best = boltzmann.objective(target, *given)
    assert float(best) == pytest.approx(float(boltzmann.soft_value(*given)))
    lost = best - boltzmann.objective(pi, *given)
    assert float(lost) == pytest.approx(tau * float(boltzmann.kl(pi, target)))
    assert apart(boltzmann.error(target, *given), -boltzmann.soft_value(*given)) < 1e-12


@temperatures
@forms
def test_both_divergences_need_no_partition_function(tau, world):
    given, pi = (world.reward, tau, world.log_base), THETA.log_softmax(-1)
    target = boltzmann.log_target(*given)
    assert float(boltzmann.kl_to_target(pi, *given)) == pytest.approx(float(boltzmann.kl(pi, target)))
    assert float(boltzmann.kl_from_target(pi, *given)) == pytest.approx(float(boltzmann.kl(target, pi)))


def test_near_the_target_both_are_half_the_variance():
    given = (WORLD.reward, 0.7, WORLD.log_base)
    errors = []
    for size in (1e-2, 5e-3):
        pi = (boltzmann.log_target(*given) + size * THETA).log_softmax(-1)
        second = float(boltzmann.kl_second_order(pi, *given))
        kls = [float(one(pi, *given)) for one in (boltzmann.kl_to_target, boltzmann.kl_from_target)]
        errors.append(max(abs(one / second - 1) for one in kls))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05) and errors[0] < 0.05


@temperatures
@forms
def test_the_mean_reward_falls_with_the_temperature_by_the_variance(tau, world):
    def mean(at: float) -> float:
        return float(boltzmann.log_target(world.reward, at, world.log_base).exp() @ world.reward)

    numeric = (mean(tau + 1e-5) - mean(tau - 1e-5)) / 2e-5
    found = float(boltzmann.reward_slope(world.reward, tau, world.log_base))
    assert found < 0 and found == pytest.approx(numeric, rel=1e-6)


def test_ties_of_the_best_share_as_the_base_measure_does():
    reward, base = torch.tensor([[1.0, 0.0, 1.0], [0.1, 0.6, 0.3]], dtype=torch.float64)
    assert boltzmann.log_optimum(reward, base.log()).exp().tolist() == pytest.approx([0.25, 0, 0.75])
    assert boltzmann.log_optimum(reward).exp().tolist() == pytest.approx([0.5, 0, 0.5])


def test_no_round_leaves_the_reference_and_many_leave_the_best():
    for rounds, expected in ((0, WORLD.log_base), (10_000, boltzmann.log_optimum(WORLD.reward, WORLD.log_base))):
        found = boltzmann.log_refreshed(WORLD.reward, 1.0, WORLD.log_base, rounds)
        assert apart(found.exp(), expected.exp()) < 1e-12


def test_a_response_without_mass_costs_nothing_and_distance_is_symmetric():
    some = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    even = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    assert float(boltzmann.kl(some, even)) == pytest.approx(float(torch.tensor(1.5).log()))
    assert float(boltzmann.kl(even, some)) == torch.inf
    for one, other in ((some, even), (even, some)):
        assert float(boltzmann.total_variation(one, other)) == pytest.approx(1 / 3)
    values = torch.arange(6).double()
    assert float(boltzmann.variance(MU.log(), values)) == pytest.approx(float(MU @ values**2 - (MU @ values) ** 2))
