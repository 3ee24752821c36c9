import math

import pytest
import torch

from lit_rlhf.functional import segment

LENGTHS = torch.tensor([3, 1, 4, 2])
VALUES = torch.tensor([0.5, -1.0, 2.0, 3.0, 0.0, 1.5, -2.5, 1.0, 4.0, -0.5], dtype=torch.float64)
WEIGHT = torch.tensor([1.0, 0.5, 0, 0, 0, 0, 1, 2, 1, 0], dtype=torch.float64)
INDEX = torch.tensor([2, 0, 2, 0, 4, 2, 0, 4, 2, 2])


def pieces(values):
    return [piece.tolist() for piece in values.split(LENGTHS.tolist())]


def of_index(k):
    return [value for value, index in zip(VALUES.tolist(), INDEX.tolist(), strict=True) if index == k]


def test_owner_counts_up_at_every_segment():
    assert segment.owner(LENGTHS).tolist() == [k for k, length in enumerate(LENGTHS.tolist()) for _ in range(length)]


def test_segment_sum_is_that_of_a_loop():
    assert segment.segment_sum(VALUES, LENGTHS).tolist() == pytest.approx([sum(piece) for piece in pieces(VALUES)])


def test_segment_mean_is_weighted_and_0_without_weight():
    found = segment.segment_mean(VALUES, LENGTHS, WEIGHT).tolist()
    expected = [
        sum(w * v for w, v in zip(ws, vs, strict=True)) / sum(ws) if sum(ws) else 0.0
        for ws, vs in zip(pieces(WEIGHT), pieces(VALUES), strict=True)
    ]
    assert found == pytest.approx(expected) and found[1] == 0
    assert segment.segment_mean(VALUES, LENGTHS).tolist() == pytest.approx(
        [sum(piece) / len(piece) for piece in pieces(VALUES)]
    )


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_does_not_count_leaks_neither_into_values_nor_into_gradients(poison):
    values = torch.where(WEIGHT == 0, poison, VALUES).requires_grad_()
    clean = VALUES.clone().requires_grad_()
    for reduce in (lambda v: segment.segment_mean(v, LENGTHS, WEIGHT), lambda v: segment.counted(v, WEIGHT)):
        (found,) = torch.autograd.grad(reduce(values).sum(), values)
        (expected,) = torch.autograd.grad(reduce(clean).sum(), clean)
        assert torch.equal(reduce(values), reduce(clean)) and torch.equal(found, expected)
        assert (found[WEIGHT == 0] == 0).all()


def test_a_nan_that_counts_is_not_hidden():
    values = VALUES.index_fill(0, torch.tensor([7]), torch.nan)
    assert segment.segment_mean(values, LENGTHS, WEIGHT).isnan().tolist() == [False, False, True, False]


def test_sums_means_and_softmaxes_by_index_are_those_of_loops():
    count = 6
    groups = [of_index(k) for k in range(count)]
    assert segment.sum_by(VALUES, INDEX, count).tolist() == pytest.approx([sum(group) for group in groups])
    assert segment.mean_by(VALUES, INDEX, count).tolist() == pytest.approx(
        [sum(g) / len(g) if g else 0.0 for g in groups]
    )
    expected = [math.log(sum(map(math.exp, g))) if g else -math.inf for g in groups]
    assert segment.logsumexp_by(VALUES, INDEX, count).tolist() == pytest.approx(expected)
    normalised = segment.log_softmax_by(VALUES, INDEX, count)
    assert normalised.tolist() == pytest.approx(
        [v - expected[k] for v, k in zip(VALUES.tolist(), INDEX.tolist(), strict=True)]
    )


def test_logsumexp_survives_extremes_and_differentiates_to_a_softmax():
    values = (1e4 * VALUES).requires_grad_()
    found = segment.logsumexp_by(values, INDEX, 6)
    (slope,) = torch.autograd.grad(found[torch.isfinite(found)].sum(), values)
    for k in (0, 2, 4):
        mine = INDEX == k
        assert torch.allclose(slope[mine], values.detach()[mine].softmax(0))
        assert found[k].item() == pytest.approx(values.detach()[mine].logsumexp(0).item())
    assert torch.autograd.gradcheck(lambda v: segment.log_softmax_by(v, INDEX, 6), VALUES.clone().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_stay(dtype):
    values = VALUES.to(dtype)
    made = [
        segment.segment_sum(values, LENGTHS),
        segment.segment_mean(values, LENGTHS, WEIGHT.float()),
        segment.mean_by(values, INDEX, 6),
        segment.logsumexp_by(values, INDEX, 6),
        segment.counted(values, WEIGHT.float()),
    ]
    assert {one.dtype for one in made} == {dtype}


def test_nothing_is_the_sum_of_nothing():
    none, nowhere = torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert segment.segment_sum(none, nowhere).shape == (0,)
    assert segment.sum_by(none, nowhere, 3).tolist() == [0, 0, 0]
