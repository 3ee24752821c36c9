import math

import pytest
import torch
from losses.given import PROMPT_OF, bandit, double, evidence, gradient, log_ratios, metric, scored, total, whole

from lit_rlhf.errors import InputError
from lit_rlhf.losses.bda import ExponentialWeight, PolicyGradient
from lit_rlhf.losses.ra import RA

TAU = 0.7


def others(k, values):
    return [v for j, (v, p) in enumerate(zip(values, PROMPT_OF, strict=True)) if p == PROMPT_OF[k] and j != k]


def baseline(name, k, values):
    if name == "none":
        return 0.0
    others_ = others(k, values)
    return sum(others_) / len(others_) if name == "leave_one_out" else (sum(others_) + values[k]) / (1 + len(others_))


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("name", ["leave_one_out", "mean", "none"])
@pytest.mark.parametrize("tau", [0.0, TAU])
def test_policy_gradient_by_a_loop(name, tau, reference):
    seen, batch, head = evidence(reference), scored(), PolicyGradient(tau, name)
    shaped = [r - tau * ratio for r, ratio in zip(batch.reward.tolist(), log_ratios(seen), strict=True)]
    advantage = [shaped[k] - baseline(name, k, shaped) for k in range(9)]
    weight, logps = batch.weight.tolist(), whole(seen.policy.values.detach())
    assert total(head, seen, batch) == pytest.approx(
        -sum(w * a * lp for w, a, lp in zip(weight, advantage, logps, strict=True))
    )
    slope = gradient(head, seen, batch)  # of log pi alone: - w A for a token that counts once
    assert slope[19].item() == pytest.approx(-weight[7] * advantage[7])
    assert metric(head, seen, batch, "advantage_square") == pytest.approx(
        sum(w * a * a for w, a in zip(weight, advantage, strict=True)) / sum(weight)
    )


def expected_gradient(head, theta, reference, reward):
    """Over responses drawn from the policy, whose law is held constant."""
    n = len(theta)
    seen, batch = bandit(theta, reference, list(range(n)), reward)
    batch = type(batch)(batch.sequences, batch.reward, theta.detach().softmax(0))
    return torch.autograd.grad(head(seen, batch).terms[0].total, theta)[0]


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_on_policy_it_is_the_gradient_of_reward_and_kl_and_ra_s_over_tau_for_any_constant(tau, prior):
    draw = torch.Generator().manual_seed(7)
    reward, theta, other = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(3))
    theta.requires_grad_()
    reference = None if prior else other.softmax(0)
    policy = theta.log_softmax(0)
    objective = (policy.exp() * (tau * (policy - (0 if prior else reference.log())) - reward)).sum()
    (exact,) = torch.autograd.grad(objective, theta)
    for name in ("none", "mean"):
        found = expected_gradient(PolicyGradient(tau, name), theta, reference, reward)
        assert torch.allclose(found, exact, rtol=1e-9, atol=1e-12)
    for partition in ("exact", "mean_reward", "none"):
        found = expected_gradient(RA(tau, partition), theta, reference, reward)
        assert torch.allclose(found, tau * exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("largest", [None, 1.5])
@pytest.mark.parametrize("name", ["mean", "none"])
def test_exponential_weights_by_a_loop(name, largest):
    seen, batch, head = evidence(), scored(), ExponentialWeight(TAU, name, largest)
    rewards = batch.reward.tolist()
    raw = [math.exp((rewards[k] - baseline(name, k, rewards)) / TAU) for k in range(9)]
    cut = [value if largest is None else min(value, largest) for value in raw]
    weight, logps = batch.weight.tolist(), whole(seen.policy.values.detach())
    assert total(head, seen, batch) == pytest.approx(
        -sum(w * e * lp for w, e, lp in zip(weight, cut, logps, strict=True))
    )
    share = sum(w for w, r, c in zip(weight, raw, cut, strict=True) if c < r) / sum(weight)
    assert metric(head, seen, batch, "weight_cut") == pytest.approx(share)
    assert (share > 0) == (largest is not None)


def test_exponential_weights_have_the_data_s_law_times_e_to_the_r_as_their_target():
    draw = torch.Generator().manual_seed(8)
    reward, other = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(2))
    mu = other.softmax(0)
    theta = (mu.log() + reward / TAU).requires_grad_()
    seen, batch = bandit(theta, None, list(range(6)), reward)
    (slope,) = torch.autograd.grad(
        ExponentialWeight(TAU)(seen, type(batch)(batch.sequences, reward, mu)).terms[0].total, theta
    )
    assert slope.abs().max() < 1e-12


def test_weights_that_overflow_are_refused_with_what_to_do():
    high = scored([1e4] + [0.0] * 8)
    with pytest.raises(InputError, match="r - b = 10000 and tau = 0.7; set baseline=mean, `largest`, or a larger tau"):
        ExponentialWeight(TAU)(evidence(), high)
    assert math.isfinite(total(ExponentialWeight(TAU, largest=20.0), evidence(), high))


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="PolicyGradient.tau is -1"):
        PolicyGradient(tau=-1)
    with pytest.raises(InputError, match="PolicyGradient.baseline is 'loo'; it is one of leave_one_out, mean, none"):
        PolicyGradient(baseline="loo")
    with pytest.raises(InputError, match="ExponentialWeight.baseline is 'leave_one_out'"):
        ExponentialWeight(baseline="leave_one_out")


@pytest.mark.parametrize(
    "head", [PolicyGradient(), PolicyGradient(baseline="mean"), ExponentialWeight(baseline="mean")], ids=repr
)
def test_a_prompt_with_one_response_is_refused_where_responses_are_compared(head):
    assert "group" in head.needs
    with pytest.raises(InputError, match="two or more"):
        head(evidence(), scored(weight=double([1, 0, 1, 0, 1, 1, 1, 1, 1])))


def test_without_a_baseline_one_response_will_do():
    lone = scored(weight=double([1, 0, 1, 0, 1, 1, 1, 1, 1]))
    for head in (PolicyGradient(baseline="none"), ExponentialWeight()):
        assert "group" not in head.needs and math.isfinite(total(head, evidence(), lone))
