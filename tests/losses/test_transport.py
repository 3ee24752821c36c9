import dataclasses
import math

import pytest
import torch
from losses.given import double, evidence, gradient, log_ratios, pairs, softplus, total, whole

from lit_rlhf.algorithms.statistics import StepStatistics
from lit_rlhf.errors import InputError
from lit_rlhf.losses.transport import AOT, coupling
from lit_rlhf.types import Observation

TAU = 0.7


def samples(seen, batch, paired):
    """a and b of every pair, the likelier end first."""
    columns = zip(*(x.tolist() for x in (batch.chosen, batch.rejected, batch.probability)), strict=True)
    sides = [(w, l) if p >= 0.5 else (l, w) for w, l, p in columns]
    if not paired:
        ratio = log_ratios(seen)
        return [TAU * ratio[w] for w, _ in sides], [TAU * ratio[l] for _, l in sides]
    policy = whole(seen.policy.values.detach())
    base = [0.0] * 9 if seen.reference is None else whole(seen.reference)
    return [TAU * (policy[w] - policy[l]) for w, l in sides], [TAU * (base[w] - base[l]) for w, l in sides]


def cost(margin, eps=0.0):
    return (1 - eps) * softplus(-margin) + eps * softplus(margin)


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_sorted_samples_meet_by_rank(eps, paired, reference):
    seen, batch = evidence(reference), pairs(weight=None)
    above, below = samples(seen, batch, paired)
    expected = sum(cost(a - b, eps) for a, b in zip(sorted(above), sorted(below), strict=True))
    assert total(AOT(TAU, paired, eps), seen, batch) == pytest.approx(expected)


@pytest.mark.parametrize("paired", [True, False])
def test_a_pair_of_weight_two_is_there_twice(paired):
    seen, once = evidence(), pairs(weight=double([1, 2, 1, 1, 2, 1]))
    twice = [0, 1, 1, 2, 3, 4, 4, 5]
    copies = {name: getattr(once, name)[twice] for name in ("chosen", "rejected", "probability", "reward_gap")}
    doubled = pairs(weight=None, **copies)
    assert total(AOT(TAU, paired), seen, once) == pytest.approx(total(AOT(TAU, paired), seen, doubled))
    assert torch.allclose(gradient(AOT(TAU, paired), seen, once), gradient(AOT(TAU, paired), seen, doubled))


@pytest.mark.parametrize("paired", [True, False])
def test_the_gradient_is_that_of_the_sorted_loss(paired):
    seen, batch = evidence(), pairs()
    slope = gradient(AOT(TAU, paired), seen, batch)
    for token in (0, 5, 10, 17):
        around = []
        for sign in (-1, 1):
            moved = seen.policy.values.detach().clone()
            moved[token] += sign * 1e-6
            around.append(total(AOT(TAU, paired), dataclasses.replace(seen, policy=type(seen.policy)(moved)), batch))
        assert slope[token].item() == pytest.approx((around[1] - around[0]) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("paired", [True, False])
def test_the_order_is_that_of_the_whole_step(paired):
    seen, batch, head = evidence(), pairs(), AOT(TAU, paired)
    edges = ("chosen", "rejected", "probability", "reward_gap", "weight")
    parts = [
        dataclasses.replace(batch, **{name: getattr(batch, name)[rows] for name in edges})
        for rows in ([0, 3], [1, 2, 4, 5])
    ]
    told = StepStatistics(1).gather([head.observe(seen, part) for part in parts], remember=True)
    seen_of = [dataclasses.replace(seen, observed=rows) for rows in told]
    pieces = list(zip(seen_of, parts, strict=True))
    assert sum(total(head, *piece) for piece in pieces) == pytest.approx(total(head, seen, batch))
    assert torch.allclose(sum(gradient(head, *piece) for piece in pieces), gradient(head, seen, batch))
    assert sum(total(head, seen, part) for part in parts) != pytest.approx(total(head, seen, batch), rel=1e-4)


def test_the_coupling_is_monotone_and_keeps_both_laws():
    weight = double([0.5, 2.0, 0.0, 1.0, 1.5])
    values = torch.stack([double([3.0, -1.0, 9.0, 0.5, 2.0]), double([0.0, 1.0, -9.0, 4.0, -2.0])], dim=1)
    above, below, mass = coupling(Observation(values, weight))
    assert (values[above, 0].diff() >= 0).all() and (values[below, 1].diff() >= 0).all()
    for side in (above, below):
        assert torch.allclose(torch.zeros(5, dtype=torch.float64).index_add(0, side, mass), weight)


def test_options_are_checked():
    with pytest.raises(InputError, match="AOT.label_smoothing is 0.5"):
        AOT(label_smoothing=0.5)


@pytest.mark.parametrize("paired", [True, False])
def test_ties_and_extremes_have_finite_gradients(paired):
    seen = evidence()
    with torch.no_grad():
        seen.policy.values[[1, 5]] = double([-1e4, 1e4])
    assert (
        math.isfinite(total(AOT(TAU, paired), seen, pairs()))
        and torch.isfinite(gradient(AOT(TAU, paired), seen, pairs())).all()
    )
    same = evidence(reference=False)
    with torch.no_grad():
        same.policy.values.fill_(-1.0)
    tied = pairs(chosen=torch.tensor([2] * 6), rejected=torch.tensor([2] * 6))
    assert total(AOT(TAU, paired), same, tied) == pytest.approx(sum(tied.weight.tolist()) * math.log(2))
