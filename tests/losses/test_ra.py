import math

import pytest
import torch
from losses.given import (
    PROMPT_OF,
    TOKENS,
    bandit,
    double,
    evidence,
    gradient,
    log_ratios,
    metric,
    scored,
    total,
    whole,
)

from lit_rlhf.errors import InputError
from lit_rlhf.losses.bda import ExponentialWeight, PolicyGradient
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import GroupVariance
from lit_rlhf.types import Rollout

TAU = 0.7
LOG_PARTITION = double([0.1, -0.3, 0.7, 0.2])


def of(prompt, values):
    return [value for value, group in zip(values, PROMPT_OF, strict=True) if group == prompt]


def quantiles(rewards):
    return [
        sum((o < r) + (o == r) / 2 for o in of(prompt, rewards)) / len(of(prompt, rewards))
        for r, prompt in zip(rewards, PROMPT_OF, strict=True)
    ]


def constants(partition, rewards, base):
    """c of every prompt, in plain numbers."""
    found = []
    for prompt in range(4):
        own = of(prompt, rewards)
        found.append(
            {
                "exact": lambda own=own, p=prompt: (
                    TAU * math.log(sum(math.exp(b + r / TAU) for b, r in zip(of(p, base), own, strict=True)))
                ),
                "learned": lambda p=prompt: TAU * LOG_PARTITION[p].item(),
                "group": lambda own=own: TAU * math.log(sum(math.exp(r / TAU) for r in own) / len(own)),
                "mean_reward": lambda own=own: sum(own) / len(own),
                "quantile": lambda: TAU * math.log(TAU * (math.exp(1 / TAU) - 1)),
                "none": lambda: 0.0,
            }[partition]()
        )
    return found


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("partition", ["exact", "learned", "group", "mean_reward", "quantile", "none"])
def test_every_partition_by_a_loop(partition, reference):
    seen, batch, head = evidence(reference, log_partition=LOG_PARTITION), scored(), RA(TAU, partition)
    if not reference and "reference" in head.needs:
        with pytest.raises(InputError, match="reads 'reference'"):
            head(seen, batch)
        return
    rewards = batch.reward.tolist()
    base = whole(seen.reference) if reference else [0.0] * 9
    c = constants(partition, rewards, base)
    given = quantiles(rewards) if partition == "quantile" else rewards
    expected = sum(
        weight / 2 * (TAU * ratio + c[prompt] - r) ** 2
        for weight, ratio, prompt, r in zip(batch.weight.tolist(), log_ratios(seen), PROMPT_OF, given, strict=True)
    )
    assert total(head, seen, batch) == pytest.approx(expected)
    mass = batch.weight.sum().item()
    assert metric(head, seen, batch, "partition") == pytest.approx(
        sum(weight * c[prompt] for weight, prompt in zip(batch.weight.tolist(), PROMPT_OF, strict=True)) / mass
    )


def test_length_normalised_log_ratios():
    seen, batch = evidence(), scored()
    expected = sum(
        weight / 2 * (TAU * ratio - r) ** 2
        for weight, ratio, r in zip(batch.weight.tolist(), log_ratios(seen, "mean"), batch.reward.tolist(), strict=True)
    )
    assert total(RA(TAU, "none", "mean"), seen, batch) == pytest.approx(expected)


def test_needs_tell_what_a_partition_reads():
    extra = {
        "exact": {"group"},
        "learned": {"log_partition"},
        "group": {"group", "reference"},
        "mean_reward": {"group"},
        "quantile": {"group", "reference"},
        "none": set(),
    }
    assert {name: RA(partition=name).needs - {"policy", "reward"} for name in extra} == extra


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_the_gradient_with_the_exact_partition(tau, prior):
    draw = torch.Generator().manual_seed(5)
    reward, theta, other = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(3))
    theta.requires_grad_()
    reference = None if prior else other.softmax(0)
    seen, batch = bandit(theta, reference, list(range(6)), reward)
    mu = torch.rand(6, generator=draw, dtype=torch.float64)
    mu = mu / mu.sum()
    batch = type(batch)(batch.sequences, batch.reward, mu)
    (found,) = torch.autograd.grad(RA(tau, "exact")(seen, batch).terms[0].total, theta)
    base = torch.zeros(6, dtype=torch.float64) if prior else reference.log()
    policy = theta.detach().log_softmax(0)
    residual = tau * (policy - base) - reward + tau * (base + reward / tau).logsumexp(0)
    expected = tau * (mu * residual - policy.exp() * (mu * residual).sum())
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_exact_partition_has_the_target_as_its_zero():
    draw = torch.Generator().manual_seed(6)
    reward, other = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(2))
    reference = other.softmax(0)
    seen, batch = bandit(reference.log() + reward / TAU, reference, list(range(6)), reward)
    assert total(RA(TAU, "exact"), seen, batch) == pytest.approx(0.0, abs=1e-20)
    assert total(RA(TAU, "none"), seen, batch) > 1e-3


def test_the_learned_partition_has_a_gradient_whose_zero_is_the_mean_error():
    partition = LOG_PARTITION.clone().requires_grad_()
    batch = scored()
    seen = evidence(log_partition=partition)
    (slope,) = torch.autograd.grad(RA(TAU, "learned")(seen, batch).terms[0].total, partition)
    error = [
        TAU * ratio + TAU * LOG_PARTITION[p].item() - r
        for ratio, p, r in zip(log_ratios(seen), PROMPT_OF, batch.reward.tolist(), strict=True)
    ]
    expected = [
        TAU * sum(w * e for w, e, p in zip(batch.weight.tolist(), error, PROMPT_OF, strict=True) if p == k)
        for k in range(4)
    ]
    assert slope.tolist() == pytest.approx(expected)


def test_a_learned_partition_that_is_not_there_is_named():
    with pytest.raises(InputError, match="reads 'log_partition'"):
        RA(partition="learned")(evidence(), scored())


@pytest.mark.parametrize("partition", ["exact", "group", "mean_reward", "quantile"])
def test_a_prompt_with_one_response_is_refused_where_responses_are_compared(partition):
    lone = scored().select(torch.tensor([0, 1, 6]))
    seen = evidence()
    part = type(seen)(type(seen.policy)(torch.zeros(6)), torch.zeros(6))
    with pytest.raises(InputError, match="RA compares.*two or more"):
        RA(partition=partition)(part, lone)
    assert torch.isfinite(RA(partition="none")(part, lone).terms[0].total)


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_sppo_by_a_loop(eta):
    """(log(pi/pi_t) - eta (P(y beats pi_t) - 1/2))^2 (https://arxiv.org/abs/2405.00675) is 2 eta^2 RA, tau = 1/eta."""
    win_rate = (0.2, 0.9, 0.5, 1.0, 0.0, 0.7, 0.4, 0.6, 0.3)
    seen, batch = evidence(), scored(win_rate)
    losses = [(ratio - eta * (p - 0.5)) ** 2 for ratio, p in zip(log_ratios(seen), win_rate, strict=True)]
    expected = sum(w * loss for w, loss in zip(batch.weight.tolist(), losses, strict=True))
    assert total(RA(1 / eta, "half"), seen, batch) == pytest.approx(expected / (2 * eta**2))
    assert "group" not in RA(partition="half").needs


@pytest.mark.parametrize("head", [
    *(RA(TAU, partition) for partition in ("mean_reward", "group", "quantile", "half", "none")),
    GroupVariance(TAU), PolicyGradient(TAU), PolicyGradient(TAU, "none"), ExponentialWeight(TAU, "mean"),
], ids=repr)
def test_rollouts_are_scored_responses_by_their_reward_alone(head):
    batch, seen = scored(), evidence()
    unread = torch.full((TOKENS,), torch.nan, dtype=torch.float64)
    credits = dict.fromkeys(("token_reward", "advantages", "returns"), unread)
    rollout = Rollout(batch.sequences, unread, batch.reward, weight=batch.weight, **credits)
    assert total(head, seen, rollout) == total(head, seen, batch)
    assert torch.equal(gradient(head, seen, rollout), gradient(head, seen, batch))


def test_impossible_options_are_refused():
    with pytest.raises(
        InputError, match="RA.partition is 'Z'; it is one of exact, learned, group, mean_reward, quantile, half, none"
    ):
        RA(partition="Z")
    with pytest.raises(InputError, match="exact partition is that of whole completions"):
        RA(partition="exact", reduce="mean")


@pytest.mark.parametrize("partition", ["exact", "group", "mean_reward", "quantile", "none"])
def test_small_temperatures_and_extreme_ratios_have_finite_gradients(partition):
    seen = evidence()
    with torch.no_grad():
        seen.policy.values[[1, 5]] = double([-1e4, 1e4])
    head, batch = RA(1e-3, partition), scored([1e4, -1e4, 0.0, 1.0, 2.0, -3.0, 1e4, 5.0, 0.0])
    assert math.isfinite(total(head, seen, batch)) and torch.isfinite(gradient(head, seen, batch)).all()
