import dataclasses
import itertools
import math

import pytest
import torch
from losses.given import (
    LAW,
    LENGTHS,
    REWARD,
    TOKENS,
    UNTRAINED,
    double,
    gradient,
    metric,
    scored,
    sequences,
    sigmoid,
    token_weight,
    total,
)
from losses.given import evidence as given_evidence

from lit_rlhf.errors import InputError
from lit_rlhf.losses.policy import ClippedSurrogate, ClippedWeight, GammaWeight, Reinforce, SoftGate
from lit_rlhf.types import Evidence, Law, Rollout, Sequences, TokenLogps

AVERAGES = ("token", "sequence", "sum")
RATIO_HEADS = (
    ClippedSurrogate, ClippedWeight, SoftGate, GammaWeight,
    lambda **options: ClippedSurrogate(ratio="sequence", **options),
    lambda **options: ClippedSurrogate(dual=3.0, **options),
)
WEIGHT = token_weight().tolist()
STARTS = [sum(LENGTHS[:k]) for k in range(len(LENGTHS))]


def rollout(constant=False, spread=0.5, **changes):
    """Advantages of both signs, per token or per sequence; ratios on both sides of the clips; NaN where untrained."""
    draw = torch.Generator().manual_seed(21)
    advantages = torch.randn(TOKENS, generator=draw, dtype=torch.float64)
    if constant:
        advantages = double(REWARD).repeat_interleave(torch.tensor(LENGTHS))
    noise = torch.randn(TOKENS, generator=draw, dtype=torch.float64)
    behaviour = given_evidence().policy.values.detach() + spread * noise
    advantages[list(UNTRAINED)] = torch.nan
    batch = Rollout(sequences(), behaviour, double(REWARD), advantages=advantages, weight=double(LAW))
    return dataclasses.replace(batch, **changes)


def tokens_of(k):
    """The trained tokens of a sequence."""
    return [t for t in range(STARTS[k], STARTS[k] + LENGTHS[k]) if WEIGHT[t]]


def averaged(objective, average):
    """The sum that the regime divides by tokens or sequences; `objective` [T] is a list."""
    found = 0.0
    for k, law in enumerate(LAW):
        whole = sum(WEIGHT[t] * objective[t] for t in tokens_of(k))
        found += law * whole / (sum(WEIGHT[t] for t in tokens_of(k)) if average == "sequence" else 1.0)
    return found


def numbers(batch, seen):
    """Log-ratios, advantages and log-probs as lists."""
    logps = seen.policy.values.detach()
    return (logps - batch.behaviour).tolist(), batch.advantages.tolist(), logps.tolist()


def sequence_ratios(log_ratio, per_token):
    """[T] by a loop."""
    found = [0.0] * TOKENS
    for k in range(len(LENGTHS)):
        whole = sum(WEIGHT[t] * log_ratio[t] for t in tokens_of(k))
        mass = sum(WEIGHT[t] for t in tokens_of(k))
        for t in tokens_of(k):
            found[t] = math.exp(whole / mass if per_token else whole)
    return found


def over(function):
    """A list [T] with 0 at untrained tokens."""
    return [0.0 if t in UNTRAINED else function(t) for t in range(TOKENS)]


def clip(x, low, high):
    return min(max(x, low), high)


@pytest.mark.parametrize("average", AVERAGES)
def test_reinforce_by_a_loop(average):
    batch, seen = rollout(), given_evidence()
    _, advantage, logps = numbers(batch, seen)
    expected = -averaged(over(lambda t: advantage[t] * logps[t]), average)
    assert total(Reinforce(average), seen, batch) == pytest.approx(expected)
    assert Reinforce(average).unit == ("token" if average == "token" else "sequence")


@pytest.mark.parametrize(("ratio", "average", "dual"), itertools.product(("token", "sequence"), AVERAGES, (None, 1.5)))
def test_clipped_surrogate_by_a_loop(ratio, average, dual):
    batch, seen = rollout(), given_evidence()
    log_ratio, advantage, _ = numbers(batch, seen)
    r = over(lambda t: math.exp(log_ratio[t])) if ratio == "token" else sequence_ratios(log_ratio, per_token=True)

    def objective(t):
        found = min(r[t] * advantage[t], clip(r[t], 0.9, 1.15) * advantage[t])
        return found if dual is None or advantage[t] >= 0 else max(found, dual * advantage[t])

    head = ClippedSurrogate(0.1, 0.15, ratio, dual, average)
    assert total(head, seen, batch) == pytest.approx(-averaged(over(objective), average))
    shares = {
        "clip_low": lambda t: r[t] < 0.9 and advantage[t] < 0, "clip_high": lambda t: r[t] > 1.15 and advantage[t] > 0,
    } | ({} if dual is None else {"clip_dual": lambda t: r[t] > dual and advantage[t] < 0})
    for name, where in shares.items():
        found = averaged(over(lambda t, where=where: float(where(t))), "token") / averaged(over(lambda t: 1.0), "token")
        assert metric(head, seen, batch, name) == pytest.approx(found)
        assert 0 < found < 1 or name == "clip_dual" or ratio == "sequence"


@pytest.mark.parametrize("low", [None, 0.1])
@pytest.mark.parametrize("average", AVERAGES)
def test_clipped_weight_by_a_loop(average, low):
    batch, seen, head = rollout(), given_evidence(), ClippedWeight(low, 0.15, average)
    log_ratio, advantage, logps = numbers(batch, seen)
    least = 0.0 if low is None else 1 - low
    weight = over(lambda t: clip(math.exp(log_ratio[t]), least, 1.15))
    expected = -averaged(over(lambda t: weight[t] * advantage[t] * logps[t]), average)
    assert total(head, seen, batch) == pytest.approx(expected)
    assert (metric(head, seen, batch, "clip_low") > 0) == (low is not None)
    slope, per_token = gradient(head, seen, batch), LAW[2] * WEIGHT[5]
    if average != "sequence":  # sg: of log pi alone, whatever is clipped
        assert slope[5].item() == pytest.approx(-per_token * weight[5] * advantage[5])


@pytest.mark.parametrize("average", AVERAGES)
def test_soft_gate_by_a_loop(average):
    batch, seen, head = rollout(), given_evidence(), SoftGate(0.8, 1.7, average)
    log_ratio, advantage, _ = numbers(batch, seen)

    def objective(t):
        tau = 0.8 if advantage[t] > 0 else 1.7
        return 4 / tau * sigmoid(tau * (math.exp(log_ratio[t]) - 1)) * advantage[t]

    assert total(head, seen, batch) == pytest.approx(-averaged(over(objective), average))
    assert 0 < metric(head, seen, batch, "gate") < 1
    assert metric(head, seen, rollout(spread=0.0), "gate") == pytest.approx(1.0)


@pytest.mark.parametrize("average", AVERAGES)
def test_gamma_weight_by_a_loop(average):
    batch, seen, head = rollout(), given_evidence(), GammaWeight(2.0, 3.0, 3.0, 2.0, average)
    log_ratio, advantage, logps = numbers(batch, seen)
    w = sequence_ratios(log_ratio, per_token=False)

    def objective(t):
        k, rate = (2.0, 3.0) if advantage[t] >= 0 else (3.0, 2.0)
        return w[t] ** k * math.exp(rate * (1 - w[t])) * advantage[t] * logps[t]

    assert total(head, seen, batch) == pytest.approx(-averaged(over(objective), average))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("make", RATIO_HEADS)
def test_at_ratio_one_every_gradient_is_the_policy_gradient_with_its_average(make, average):
    batch, seen = rollout(constant=True, spread=0.0), given_evidence()
    expected = gradient(Reinforce(average), seen, batch)
    assert torch.allclose(gradient(make(average=average), seen, batch), expected, rtol=1e-12, atol=1e-14)
    assert expected[5].item() == pytest.approx(-LAW[2] * REWARD[2] / (LENGTHS[2] if average == "sequence" else 1))
    assert metric(make(average=average), seen, batch, "ratio") == 1.0
    assert metric(make(average=average), seen, batch, "approx_kl") == pytest.approx(0.0, abs=1e-15)


def test_a_sequence_ratio_that_is_clipped_moves_none_of_its_tokens():
    batch, seen = rollout(constant=True), given_evidence()
    slope = gradient(ClippedSurrogate(3e-4, 4e-4, "sequence", average="sequence"), seen, batch)
    r = sequence_ratios(numbers(batch, seen)[0], per_token=True)
    for k in range(len(LENGTHS)):
        ratio, advantage = r[tokens_of(k)[0]], REWARD[k]
        cut = ratio > 1 + 4e-4 if advantage > 0 else ratio < 1 - 3e-4
        mass = sum(WEIGHT[t] for t in tokens_of(k))
        for t in tokens_of(k):
            assert slope[t].item() == pytest.approx(0.0 if cut else -LAW[k] * WEIGHT[t] / mass * ratio * advantage)


def test_luspo_weighs_sequences_of_gspo_by_their_length():
    batch, seen = rollout(constant=True), given_evidence()
    options = {"low": 0.1, "high": 0.1, "ratio": "sequence"}
    mass = double([sum(WEIGHT[t] for t in tokens_of(k)) for k in range(len(LENGTHS))])
    longer = dataclasses.replace(batch, weight=batch.weight * mass)
    gspo, luspo = ClippedSurrogate(**options, average="sequence"), ClippedSurrogate(**options, average="sum")
    assert total(luspo, seen, batch) == pytest.approx(total(gspo, seen, longer))


def test_a_length_divides_sums():
    batch, seen = rollout(), given_evidence()
    for make in (Reinforce, *RATIO_HEADS):
        whole = total(make(average="sum"), seen, batch)
        assert total(make(average="sum", length=16), seen, batch) == pytest.approx(whole / 16)
        with pytest.raises(InputError, match="length divides sums of tokens; set average=sum"):
            make(average="sequence", length=16)
    with pytest.raises(InputError, match="Reinforce.length is 0; it is a positive number"):
        Reinforce(length=0)


def test_metrics_of_the_ratio_by_a_loop():
    batch, seen, head = rollout(), given_evidence(), ClippedSurrogate()
    log_ratio, advantage, _ = numbers(batch, seen)
    mass = averaged(over(lambda t: 1.0), "token")
    for name, formula in {
        "ratio": lambda t: math.exp(log_ratio[t]),
        "approx_kl": lambda t: math.exp(log_ratio[t]) - 1 - log_ratio[t],
        "approx_kl_k1": lambda t: -log_ratio[t],
        "advantage": lambda t: advantage[t],
        "advantage_square": lambda t: advantage[t] ** 2,
    }.items():
        assert metric(head, seen, batch, name) == pytest.approx(averaged(over(formula), "token") / mass), name


def test_approx_kl_estimates_the_kl_from_the_behaviour():
    draw = torch.Generator().manual_seed(3)
    old, new = (torch.randn(6, generator=draw, dtype=torch.float64).log_softmax(0) for _ in range(2))
    lone = torch.ones(6, dtype=torch.long)
    batch = Rollout(
        Sequences(lone[:1], lone[:1], torch.arange(6), lone, 0 * lone), old, old.exp(), advantages=old,
        weight=old.exp(),
    )
    seen = Evidence(TokenLogps(new))
    exact = (old.exp() * (old - new)).sum().item()
    assert metric(Reinforce(), seen, batch, "approx_kl") == pytest.approx(exact)
    assert metric(Reinforce(), seen, batch, "approx_kl_k1") == pytest.approx(exact)
    assert metric(Reinforce(), seen, batch, "ratio") == pytest.approx(1.0)


@pytest.mark.parametrize("make", (Reinforce, *RATIO_HEADS))
def test_ratios_are_of_the_law_that_sampled(make):
    batch, seen = rollout(law=Law(0.7)), given_evidence()
    with pytest.raises(InputError, match="the rollout was sampled at its own temperature.*law=rollout.law"):
        make()(seen, batch)
    policy = seen.policy
    acting = (policy.values.detach() - 0.1).requires_grad_()
    scaled = dataclasses.replace(seen, policy=dataclasses.replace(policy, acting=acting))
    plain = dataclasses.replace(seen, policy=dataclasses.replace(policy, values=acting))
    assert total(make(), scaled, batch) == total(make(), plain, dataclasses.replace(batch, law=None))


def test_given_data_has_no_behaviour():
    with pytest.raises(InputError, match="reads 'advantages', and this batch has none"):
        Reinforce()(given_evidence(), scored())
    with pytest.raises(InputError, match="reads 'advantages'"):
        Reinforce()(given_evidence(), rollout(advantages=None))


@pytest.mark.parametrize("success", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("group", [2, 4, 7])
def test_grpo_reweighs_a_prompt_of_success_p_by_w_of_p(success, group):
    """Standardised binary rewards: the expected gradient is w_G(p) grad p, w_G = E sqrt(m (1 - m)) / (p (1 - p))."""
    logit = double(math.log(success / (1 - success))).requires_grad_()
    policy = torch.stack([-logit, logit]).mul(0.5).log_softmax(0)
    found = 0.0
    for hits in range(group + 1):
        chance = math.comb(group, hits) * success**hits * (1 - success) ** (group - hits)
        spread = math.sqrt(hits * (group - hits)) / group
        reward = double([1.0] * hits + [0.0] * (group - hits))
        advantage = (reward - reward.mean()) / (spread or 1.0)
        found = found + chance * group_loss(policy, reward.long(), advantage)
    (slope,) = torch.autograd.grad(found, logit)
    m = [hits / group for hits in range(group + 1)]
    chances = [math.comb(group, k) * success**k * (1 - success) ** (group - k) for k in range(group + 1)]
    w = sum(c * math.sqrt(x * (1 - x)) for c, x in zip(chances, m, strict=True)) / (success * (1 - success))
    assert slope.item() == pytest.approx(-w * success * (1 - success))  # grad p by the logit


def group_loss(policy, drawn, advantage):
    """The loss of GRPO on one group of completions of one token."""
    lone = torch.ones_like(drawn)
    given = Sequences(lone[:1], lone[:1], drawn, lone, 0 * lone)
    batch = Rollout(given, policy.detach()[drawn], advantage, advantages=advantage)
    seen = Evidence(TokenLogps(policy[drawn]))
    head = ClippedSurrogate(average="sequence")
    return head(seen, batch).terms[0].total / batch.count(head.unit)


def test_impossible_options_are_refused():
    for make, message in (
        (lambda: Reinforce(average="mean"), "Reinforce.average is 'mean'; it is one of token, sequence, sum"),
        (lambda: ClippedSurrogate(low=0), "ClippedSurrogate.low is 0; it is a positive number"),
        (lambda: ClippedSurrogate(ratio="prompt"), "ClippedSurrogate.ratio is 'prompt'; it is one of token, sequence"),
        (lambda: ClippedSurrogate(dual=1.1), "ClippedSurrogate.dual is 1.1; it is greater than 1 \\+ high = 1.2"),
        (lambda: ClippedWeight(low=-1), "ClippedWeight.low is -1"),
        (lambda: SoftGate(tau_neg=0), "SoftGate.tau_neg is 0"),
        (lambda: GammaWeight(lambda_neg=0), "GammaWeight.lambda_neg is 0"),
    ):
        with pytest.raises(InputError, match=message):
            make()
