import dataclasses
import math

import pytest
import torch
from losses.given import (
    HALF,
    LENGTHS,
    TOKENS,
    UNTRAINED,
    double,
    evidence,
    gradient,
    metric,
    pairs,
    scored,
    softplus,
    token_weight,
    total,
    whole,
)

from lit_rlhf.errors import InputError
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.regularisers import NLL, EntropyBonus, KLPenalty, OddsRatio, OpponentLikelihood, ValueLoss
from lit_rlhf.types import Evidence, PreferenceBatch, Rollout, Sequences, TokenLogps

OWNER = [k for k, length in enumerate(LENGTHS) for _ in range(length)]
TRAINED = [t for t in range(TOKENS) if t not in UNTRAINED]


def law(batch):
    """The weight of every token times that of its sequence."""
    return [w * batch.weight[k].item() for w, k in zip(token_weight().tolist(), OWNER, strict=True)]


@pytest.mark.parametrize(
    ("estimator", "formula"), [("k2", lambda x: x * x / 2), ("k3", lambda x: math.exp(-x) - 1 + x)], ids=["k2", "k3"]
)
def test_kl_penalty_by_a_loop(estimator, formula):
    seen, batch = evidence(), scored()
    ratio = (seen.policy.values.detach() - seen.reference).tolist()
    weight = law(batch)
    assert total(KLPenalty(estimator), seen, batch) == pytest.approx(
        sum(weight[t] * formula(ratio[t]) for t in TRAINED)
    )
    assert batch.count("token").item() == pytest.approx(sum(weight))
    assert not gradient(KLPenalty(estimator), seen, batch)[list(UNTRAINED)].any()


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_averages_of_the_kl_penalty_by_a_loop(estimator):
    seen, batch = evidence(), scored()
    ratio = (seen.policy.values.detach() - seen.reference).tolist()
    values = [x * x / 2 if estimator == "k2" else math.exp(-x) - 1 + x for x in ratio]
    weight, mass = token_weight().tolist(), whole(torch.ones(TOKENS, dtype=torch.float64))
    sums = [sum(weight[t] * values[t] for t in TRAINED if OWNER[t] == k) for k in range(9)]
    per_sequence = {"sum": sums, "sequence": [s / m for s, m in zip(sums, mass, strict=True)]}
    for average, expected in per_sequence.items():
        head = KLPenalty(estimator, average)
        found = sum(w * value for w, value in zip(batch.weight.tolist(), expected, strict=True))
        assert total(head, seen, batch) == pytest.approx(found) and head.unit == "sequence"
    with pytest.raises(InputError, match="KLPenalty.average is 'mean'; it is one of token, sequence, sum"):
        KLPenalty(average="mean")


def two_tokens(logits, reference):
    """All four completions of two tokens, as often as the policy draws them; logits [3, 2]: start, after 0, after 1."""
    first, second = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    logps, base = logits.log_softmax(-1), reference.log_softmax(-1)
    policy, u = (torch.stack([law[0, first], law[1 + first, second]], 1).flatten() for law in (logps, base))
    law = policy.detach().view(4, 2).sum(1).exp()
    one, count = torch.ones(1, dtype=torch.long), torch.full((4,), 2)
    given = Sequences(one, one, torch.stack([first, second], 1).flatten(), count, 0 * count)
    return Evidence(TokenLogps(policy), u), Rollout(given, policy.detach(), torch.zeros(4).double(), weight=law)


def test_kl_penalties_of_tokens_are_not_the_kl_of_sequences_and_the_kl_in_the_reward_is():
    draw = torch.Generator().manual_seed(12)
    logits, reference = (2 * torch.randn(3, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    pi, u = logits.log_softmax(-1), reference.log_softmax(-1)
    per_state, at = (pi.exp() * (pi - u)).sum(-1), pi[0].exp()
    whole_kl = per_state[0] + (at * per_state[1:]).sum()
    states = per_state[0] + (at.detach() * per_state[1:]).sum()
    forward = (u.exp() * (u - pi)).sum(-1)
    heads = {
        KLPenalty("k2", "sum"): states,
        KLPenalty("k3", "sum"): forward[0] + (at.detach() * forward[1:]).sum(),
        PolicyGradient(1.0, "none"): whole_kl,
    }
    (exact,) = torch.autograd.grad(whole_kl, logits, retain_graph=True)
    for head, objective in heads.items():
        seen, batch = two_tokens(logits, reference)
        (found,) = torch.autograd.grad(head(seen, batch).terms[0].total, logits, retain_graph=True)
        (expected,) = torch.autograd.grad(objective, logits, retain_graph=True)
        assert torch.allclose(found, expected, atol=1e-12), head
        assert torch.allclose(found, exact, atol=1e-12) == isinstance(head, PolicyGradient)


def test_kl_penalty_needs_a_reference_and_refuses_k1():
    assert KLPenalty().needs == {"policy", "reference"}
    with pytest.raises(InputError, match="reads 'reference'"):
        KLPenalty()(evidence(reference=False), scored())
    with pytest.raises(InputError, match="estimator is 'k1'.*belongs in the reward"):
        KLPenalty("k1")


def test_entropy_bonus_by_a_loop():
    entropy = (
        torch.linspace(0.1, 2.0, TOKENS, dtype=torch.float64)
        .index_fill(0, torch.tensor(UNTRAINED), torch.nan)
        .requires_grad_()
    )
    seen, batch = Evidence(TokenLogps(torch.zeros(TOKENS), entropy)), scored()
    expected = -sum(law(batch)[t] * entropy[t].item() for t in TRAINED)
    assert total(EntropyBonus(), seen, batch) == pytest.approx(expected)
    (slope,) = torch.autograd.grad(EntropyBonus()(seen, batch).terms[0].total, entropy)
    assert slope.tolist() == pytest.approx([-w for w in law(batch)])
    with pytest.raises(InputError, match="entropy=True"):
        EntropyBonus()(evidence(), batch)


def test_nll_of_completions():
    seen, batch = evidence(), scored()
    expected = -sum(law(batch)[t] * seen.policy.values[t].item() for t in TRAINED)
    assert total(NLL(), seen, batch) == pytest.approx(expected)
    assert NLL()(seen, batch).terms[0].unit == "token"
    assert metric(NLL(), seen, batch, "nll") == pytest.approx(expected / sum(law(batch)))


def test_nll_of_pairs_is_that_of_chosen_ends_as_often_as_they_are_chosen():
    seen, batch = evidence(), pairs()
    logps = whole(seen.policy.values.detach())
    expected = -sum(weight * logps[k] for k, weight in zip(batch.chosen.tolist(), batch.weight.tolist(), strict=True))
    assert total(NLL(), seen, batch) == pytest.approx(expected)
    assert NLL()(seen, batch).terms[0].unit == "chosen_token"
    per_end = [sum(token_weight().tolist()[t] for t in range(TOKENS) if OWNER[t] == k) for k in range(9)]
    count = sum(weight * per_end[k] for k, weight in zip(batch.chosen.tolist(), batch.weight.tolist(), strict=True))
    assert batch.count("chosen_token").item() == pytest.approx(count)


def test_odds_ratio_by_a_loop():
    seen, batch = evidence(), pairs()
    odds = [lp - math.log1p(-math.exp(lp)) for lp in whole(seen.policy.values.detach(), reduce="mean")]
    columns = (batch.chosen, batch.rejected, batch.probability, batch.weight)
    expected = sum(
        weight * (p * softplus(odds[l] - odds[w]) + (1 - p) * softplus(odds[w] - odds[l]))
        for w, l, p, weight in zip(*(x.tolist() for x in columns), strict=True)
    )
    assert total(OddsRatio(), seen, batch) == pytest.approx(expected)
    assert total(OddsRatio(), evidence(reference=False), batch) == pytest.approx(expected)


def with_opponent(opponent):
    batch = pairs()
    drawn = Rollout(batch.sequences, torch.zeros(TOKENS), torch.zeros(9), opponent=torch.tensor(opponent))
    return dataclasses.replace(batch, drawn=drawn)


def test_the_opponent_s_likelihood_by_a_loop():
    seen, opponent = evidence(), [True, False, False, True, True, False, True, True, False]
    batch, logps = with_opponent(opponent), whole(seen.policy.values.detach())
    expected = sum(
        weight * sum(logps[end] for end in ends if opponent[end])
        for *ends, weight in zip(*(x.tolist() for x in (batch.chosen, batch.rejected, batch.weight)), strict=True)
    )
    assert total(OpponentLikelihood(), seen, batch) == pytest.approx(expected)
    assert (PRA() + 0.1 * OpponentLikelihood()).unit == "pair"
    assert total(OpponentLikelihood(), seen, with_opponent([False] * 9)) == 0
    with pytest.raises(InputError, match="reads 'opponent', and this batch has none"):
        OpponentLikelihood()(seen, pairs())


def test_xpo_s_bonus_moves_the_policy_away_from_the_reference_s_samples():
    """Over every pair of a response of pi and one of u, drawn independently, its gradient is u - pi."""
    draw = torch.Generator().manual_seed(13)
    theta, other = (torch.randn(4, generator=draw, dtype=torch.float64) for _ in range(2))
    theta.requires_grad_()
    pi, u = theta.softmax(0), other.softmax(0)
    which = torch.arange(4).repeat(2)
    one, count = torch.ones(1, dtype=torch.long), torch.ones(8, dtype=torch.long)
    given, nothing = Sequences(one, one, which, count, 0 * count), torch.zeros(8)
    drawn = Rollout(given, nothing, nothing, opponent=torch.arange(8) > 3)
    first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4, 8)).T
    law = pi.detach()[first] * u[second - 4]
    batch = PreferenceBatch(drawn.sequences, first, second, torch.full((16,), 0.5), weight=law, drawn=drawn)
    loss = OpponentLikelihood()(Evidence(TokenLogps(theta.log_softmax(0)[which])), batch).terms[0].total
    (slope,) = torch.autograd.grad(loss, theta)
    assert torch.allclose(slope, u - pi)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, -1e-12, -1e4])
def test_odds_of_certain_and_of_impossible_completions_are_finite(value, dtype):
    values = torch.full((TOKENS,), -0.5, dtype=dtype)
    values[4:8] = value
    seen = Evidence(TokenLogps(values.requires_grad_()))
    assert (
        math.isfinite(total(OddsRatio(), seen, pairs())) and torch.isfinite(gradient(OddsRatio(), seen, pairs())).all()
    )


def rollout():
    draw = torch.Generator().manual_seed(10)
    batch = scored()
    behaviour, values, returns = (torch.randn(TOKENS, generator=draw, dtype=torch.float64) for _ in range(3))
    returns[list(UNTRAINED)] = torch.nan
    return Rollout(batch.sequences, behaviour, batch.reward, values=values, returns=returns, weight=batch.weight)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_value_loss_by_a_loop(clip):
    batch = rollout()
    values = torch.linspace(-1, 1, TOKENS, dtype=torch.float64).requires_grad_()
    expected = 0.0
    for t in TRAINED:
        v, old, target = values[t].item(), batch.values[t].item(), batch.returns[t].item()
        error = (v - target) ** 2
        if clip is not None:
            error = max(error, (min(max(v, old - clip), old + clip) - target) ** 2)
        expected += law(batch)[t] * error / 2
    assert total(ValueLoss(clip), Evidence(values=values), batch) == pytest.approx(expected)
    assert ValueLoss(clip).needs == {"values", "returns"}


def test_metrics_of_the_value_loss_give_the_explained_variance():
    batch, head = rollout(), ValueLoss(0.2)
    values = torch.linspace(-1, 1, TOKENS, dtype=torch.float64) + 0.5 * batch.returns
    seen = Evidence(values=values)
    weight = double(law(batch))[TRAINED]
    value, target = values[TRAINED], batch.returns[TRAINED]

    def variance(x):
        return (weight * (x - (weight * x).sum() / weight.sum()).square()).sum() / weight.sum()

    means = {name: metric(head, seen, batch, name) for name in ("value_error", "value", "return", "return_square")}
    error = means["value_error"] - (means["value"] - means["return"]) ** 2
    found = 1 - error / (means["return_square"] - means["return"] ** 2)
    assert found == pytest.approx((1 - variance(target - value) / variance(target)).item())
    assert means["value_error"] == pytest.approx(((weight * (value - target).square()).sum() / weight.sum()).item())


def test_value_loss_names_what_is_missing():
    batch = rollout()
    with pytest.raises(InputError, match="reads 'values', and the composition"):
        ValueLoss()(Evidence(), batch)
    with pytest.raises(InputError, match="reads 'returns', and this batch has none"):
        ValueLoss()(Evidence(values=torch.zeros(TOKENS)), Rollout(batch.sequences, batch.behaviour, batch.reward))


def test_tokens_that_count_half_have_half_the_gradient():
    slope = gradient(NLL(), evidence(), scored(weight=None))
    assert slope[list(HALF)].tolist() == [-0.5, -0.5] and slope[1] == -1.0


def test_extreme_ratios_have_finite_gradients():
    seen = evidence()
    with torch.no_grad():
        seen.policy.values[[1, 5]] = double([-1e4, 1e4])
    for estimator in ("k2", "k3"):
        assert math.isfinite(total(KLPenalty(estimator), seen, scored()))
        assert torch.isfinite(gradient(KLPenalty(estimator), seen, scored())).all()
