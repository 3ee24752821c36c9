import dataclasses
import math

import pytest
import torch
from losses.given import LABEL, double, evidence, gradient, log_ratios, metric, pairs, scored, sigmoid, softplus, total

from lit_rlhf.algorithms.statistics import StepStatistics
from lit_rlhf.losses.unpaired import ClassMeans, CrossEntropy, MeanReward, Origin, Saturating, UnpairedPRA
from lit_rlhf.types import Observation

TAU, GOOD, BAD = 0.7, 1.3, 0.6
KTO = UnpairedPRA(TAU, Saturating(), MeanReward(), GOOD, BAD)
BCO = UnpairedPRA(TAU, CrossEntropy(), ClassMeans(decay=0.9), GOOD, BAD)
APO = UnpairedPRA(TAU, Saturating(), Origin(), GOOD, BAD)


def average(values, weight):
    return sum(v * w for v, w in zip(values, weight, strict=True)) / sum(weight)


def kto_anchor(reward, label, weight):
    return max(0.0, average(reward, weight))


def bco_anchor(reward, label, weight):
    good = average(reward, [w * q for w, q in zip(weight, label, strict=True)])
    return (good + average(reward, [w * (1 - q) for w, q in zip(weight, label, strict=True)])) / 2


CASES = {
    "kto": (KTO, lambda x: 1 - sigmoid(x), kto_anchor),
    "bco": (BCO, lambda x: softplus(-x), bco_anchor),
    "apo_zero": (APO, lambda x: 1 - sigmoid(x), lambda *_: 0.0),
}


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_labels_of_single_responses_by_a_loop(name, reference):
    head, value, anchor = CASES[name]
    seen, batch = evidence(reference), scored(LABEL)
    reward, weight = [TAU * ratio for ratio in log_ratios(seen)], batch.weight.tolist()
    z = anchor(reward, LABEL, weight)
    expected = sum(
        w * (q * GOOD * value(r - z) + (1 - q) * BAD * value(z - r))
        for w, q, r in zip(weight, LABEL, reward, strict=True)
    )
    assert total(head, seen, batch) == pytest.approx(expected)
    assert head(seen, batch).terms[0].unit == head.unit == "sequence"
    assert metric(head, seen, batch, "anchor") == pytest.approx(z)
    assert metric(head, seen, batch, "rewards/good") == pytest.approx(
        average(reward, [w * q for w, q in zip(weight, LABEL, strict=True)])
    )


@pytest.mark.parametrize("name", CASES)
def test_the_ends_of_pairs_are_taken_apart(name):
    head, value, anchor = CASES[name]
    seen, batch = evidence(), pairs()
    ratio = [TAU * x for x in log_ratios(seen)]
    columns = [x.tolist() for x in (batch.chosen, batch.rejected, batch.probability, batch.weight)]
    ends = [(ratio[k], q, w) for c, r, p, w in zip(*columns, strict=True) for k, q in ((c, p), (r, 1 - p))]
    reward, label, weight = (list(column) for column in zip(*ends, strict=True))
    z = anchor(reward, label, weight)
    expected = sum(w * (q * GOOD * value(r - z) + (1 - q) * BAD * value(z - r)) for r, q, w in ends)
    assert total(head, seen, batch) == pytest.approx(expected)
    assert head(seen, batch).terms[0].unit == "pair"


def test_length_normalised_rewards():
    seen, batch = evidence(), scored(LABEL)
    reward = [TAU * ratio for ratio in log_ratios(seen, "mean")]
    expected = sum(
        w * (q * (1 - sigmoid(r)) + (1 - q) * (1 - sigmoid(-r)))
        for w, q, r in zip(batch.weight.tolist(), LABEL, reward, strict=True)
    )
    assert total(UnpairedPRA(TAU, anchor=Origin(), reduce="mean"), seen, batch) == pytest.approx(expected)


@pytest.mark.parametrize("head", [KTO, BCO], ids=["kto", "bco"])
def test_the_anchor_has_no_gradient(head):
    seen, batch = evidence(), scored(LABEL)
    z = metric(head, seen, batch, "anchor")
    constant = Observation(double([[z]]), double([1.0]))

    class Fixed(Origin):
        def value(self, means):
            return means[0]

    fixed = dataclasses.replace(head, anchor=Fixed())
    told = dataclasses.replace(seen, observed=(constant,))
    assert torch.allclose(gradient(fixed, told, batch), gradient(head, seen, batch))


def test_kto_s_anchor_is_not_negative():
    anchor = MeanReward()
    assert anchor.value(double([-3.0])).item() == 0 and anchor.value(double([2.0])).item() == 2


def test_two_passes_make_the_statistic_of_the_whole_step():
    """Micro-batches of a step, each told the rows of all: their sum is the whole, and without being told it is not."""
    for head in (KTO, BCO):
        seen, batch = evidence(), scored(LABEL)
        split = [torch.tensor([0, 2, 5, 6]), torch.tensor([1, 3, 4, 7, 8])]
        parts = [_part(seen, batch, rows) for rows in split]
        told = StepStatistics(1).gather([head.observe(*part) for part in parts], remember=True)
        found = sum(
            total(head, dataclasses.replace(one, observed=rows), part)
            for (one, part), rows in zip(parts, told, strict=True)
        )
        whole = total(head, seen, batch)
        assert found == pytest.approx(whole)
        assert sum(total(head, *part) for part in parts) != pytest.approx(whole, rel=1e-4)


def _part(seen, batch, rows):
    lengths = batch.sequences.completion_lengths
    start = lengths.cumsum(0) - lengths
    tokens = torch.cat([torch.arange(int(start[k]), int(start[k] + lengths[k])) for k in rows])
    policy = type(seen.policy)(seen.policy.values.detach()[tokens])
    return dataclasses.replace(seen, policy=policy, reference=seen.reference[tokens]), batch.select(rows)


def test_the_running_means_of_bco_move_by_their_decay():
    seen, batch, statistics = evidence(), scored(LABEL), StepStatistics(1)
    ((first,),) = statistics.gather([BCO.observe(seen, batch)], remember=True)
    moved = evidence(seed=3)
    ((second,),) = statistics.gather([BCO.observe(moved, batch)], remember=True)
    expected = 0.9 * first.mean() + 0.1 * second.mean()
    assert torch.allclose(second.running, expected)
    z = ClassMeans().value(expected).item()
    assert metric(BCO, dataclasses.replace(moved, observed=(second,)), batch, "anchor") == pytest.approx(z)


def test_class_means_are_of_the_classes_that_were_seen():
    means = ClassMeans()
    assert means.value(double([0.6, 0.3, -0.7, 0.7])).item() == pytest.approx((2.0 - 1.0) / 2)
    assert means.value(double([0.6, 0.3, 0.0, 0.0])).item() == pytest.approx(2.0)
    assert means.value(double([0.0, 0.0, 0.0, 0.0])).item() == 0


@pytest.mark.parametrize("head", [KTO, BCO, APO], ids=["kto", "bco", "apo"])
def test_extreme_log_ratios_have_finite_gradients(head):
    seen = evidence()
    with torch.no_grad():
        seen.policy.values[[1, 5]] = double([-1e4, 1e4])
    assert math.isfinite(total(head, seen, scored(LABEL))) and torch.isfinite(gradient(head, seen, scored(LABEL))).all()
