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
from lit_rlhf.losses.regularisers import NLL, EntropyBonus, KLPenalty, OddsRatio, ValueLoss
from lit_rlhf.types import Evidence, Rollout, TokenLogps

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
