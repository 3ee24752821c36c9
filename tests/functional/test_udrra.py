import itertools
import math

import pytest
import torch

from lit_rlhf.functional import udrra

REWARD = torch.tensor([0.4, -1.0, 2.0, 0.4, 1.5, -0.2, 0.4], dtype=torch.float64)
GROUP = torch.tensor([0, 2, 0, 0, 2, 2, 0])
PROMPTS = 4
TAUS = (0.05, 0.3, 1.0, 20.0)


def of(prompt, values=REWARD):
    return [value for value, group in zip(values.tolist(), GROUP.tolist(), strict=True) if group == prompt]


def test_the_implicit_reward_is_tau_times_a_log_ratio():
    policy, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -0.5])
    assert udrra.implicit_reward(policy, reference, 0.5).tolist() == [1.0, -0.75]
    assert udrra.implicit_reward(policy, None, 0.5).tolist() == [-0.5, -1.0]
    assert udrra.implicit_reward(policy, reference, torch.tensor(0.5)).tolist() == [1.0, -0.75]


def test_over_completions_adds_or_averages_the_tokens_that_count():
    values = torch.tensor([1.0, math.nan, 3.0, 5.0, 7.0], requires_grad=True)
    weight, lengths = torch.tensor([1.0, 0.0, 0.5, 2.0, 1.0]), torch.tensor([3, 2])
    found = udrra.over_completions(values, weight, lengths, "sum")
    assert found.tolist() == [1 + 0.5 * 3, 2 * 5 + 7]
    assert udrra.over_completions(values, weight, lengths, "mean").tolist() == pytest.approx([2.5 / 1.5, 17 / 3])
    assert torch.autograd.grad(found.sum(), values)[0].tolist() == weight.tolist()


@pytest.mark.parametrize("tau", TAUS)
def test_the_enumerated_partition_normalises_the_target(tau):
    base = torch.tensor([0.1, 0.3, 0.2, 0.5, 0.6, 0.1, 0.2], dtype=torch.float64).log()
    soft_value = udrra.enumerated_partition(base, REWARD, GROUP, PROMPTS, tau)
    target = (base + (REWARD - soft_value[GROUP]) / tau).exp()
    for prompt in (0, 2):
        assert target[GROUP == prompt].sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("tau", TAUS[1:])
def test_the_sampled_partition_is_tau_log_mean_exp(tau):
    found = udrra.sampled_partition(REWARD, GROUP, PROMPTS, tau)
    for prompt in (0, 2):
        rewards = of(prompt)
        assert found[prompt].item() == pytest.approx(
            tau * math.log(sum(math.exp(r / tau) for r in rewards) / len(rewards))
        )


def test_the_sampled_partition_survives_a_small_temperature():
    assert udrra.sampled_partition(REWARD, GROUP, PROMPTS, 1e-4)[[0, 2]].tolist() == pytest.approx([2.0, 1.5], abs=1e-3)


def test_quantiles_are_shares_of_worse_responses_with_ties_halved():
    found = udrra.quantile_rewards(REWARD, GROUP)
    for k, (reward, prompt) in enumerate(zip(REWARD.tolist(), GROUP.tolist(), strict=True)):
        others = of(prompt)
        assert found[k].item() == pytest.approx(sum((o < reward) + (o == reward) / 2 for o in others) / len(others))
    for prompt in (0, 2):
        assert found[GROUP == prompt].mean().item() == pytest.approx(0.5)


@pytest.mark.parametrize("tau", TAUS)
def test_the_quantile_partition_is_the_integral(tau):
    nodes = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    integral = (nodes / tau).logsumexp(0) - math.log(len(nodes))
    assert udrra.quantile_partition(tau).item() == pytest.approx(tau * integral.item(), rel=1e-6)


def test_the_quantile_partition_of_a_learned_temperature_has_its_gradient():
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(udrra.quantile_partition(tau), tau)
    step = 1e-5
    around = [udrra.quantile_partition(0.3 + sign * step).item() for sign in (-1, 1)]
    assert slope.item() == pytest.approx((around[1] - around[0]) / (2 * step), rel=1e-6)


def test_leave_one_out_takes_the_mean_of_the_others():
    group = torch.tensor([0, 2, 0, 0, 2, 3, 0])
    found = udrra.leave_one_out(REWARD, group, PROMPTS)
    for k, (reward, prompt) in enumerate(zip(REWARD.tolist(), group.tolist(), strict=True)):
        others = [
            r for j, (r, g) in enumerate(zip(REWARD.tolist(), group.tolist(), strict=True)) if g == prompt and j != k
        ]
        assert found[k].item() == pytest.approx(reward - sum(others) / len(others) if others else 0.0)


@pytest.mark.parametrize(("dtype", "tau"), itertools.product([torch.float32, torch.float64], [0.5, torch.tensor(0.5)]))
def test_dtypes_stay(dtype, tau):
    reward = REWARD.to(dtype)
    made = [
        udrra.implicit_reward(reward, reward, tau),
        udrra.enumerated_partition(reward, reward, GROUP, PROMPTS, tau),
        udrra.sampled_partition(reward, GROUP, PROMPTS, tau),
        udrra.quantile_rewards(reward, GROUP),
        udrra.leave_one_out(reward, GROUP, PROMPTS),
        reward + udrra.quantile_partition(tau),
    ]
    assert {one.dtype for one in made} == {dtype}
