"""Files that name a variant of a loss: each is the equation of its paper, by hand."""

import dataclasses
import math

import pytest
import torch
from by_hand import (
    chosen_nll,
    drawn,
    groups,
    labelled,
    log_sigmoid,
    mean,
    pairs,
    responses,
    rewarded,
    sigmoid,
    value,
)
from configurations import CONFIGS, built
from support import Bigram, FrozenBigram, preferences, scored

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.reference import EMA


def loss_of(name, batch):
    """The loss of a file on models of a test, with a reference where the file has one."""
    algorithm, _ = built(CONFIGS / f"{name}.yaml")
    reference = None if algorithm.reference is None else FrozenBigram()
    return value(Algorithm(Bigram(), algorithm.loss, reference=reference), batch)


def margin(w, l):
    return 0.1 * (w.ratio - l.ratio)


def with_gap(batch):
    return zip(pairs(batch), batch.reward_gap.tolist(), strict=True)


def bco(batch):
    """Per pair, both ends counted."""
    ends = [(0.1 * w.ratio, 0.1 * l.ratio) for w, l in pairs(batch)]
    middle = mean((a + b) / 2 for a, b in ends)
    return mean(-log_sigmoid(a - middle) - log_sigmoid(middle - b) for a, b in ends)


def dpo(batch):
    return mean(-log_sigmoid(margin(w, l)) for w, l in pairs(batch))


def sampled_log_partition(rewards):
    return math.log(mean(math.exp(r / 0.1) for r in rewards))


ON_PAIRS = {
    "cdpo": lambda batch: mean(
        -0.9 * log_sigmoid(margin(w, l)) - 0.1 * log_sigmoid(-margin(w, l)) for w, l in pairs(batch)
    ),
    "robust_dpo": lambda batch: mean(
        (-0.9 * log_sigmoid(margin(w, l)) + 0.1 * log_sigmoid(-margin(w, l))) / 0.8 for w, l in pairs(batch)
    ),
    "dpo_norm": lambda batch: mean(-log_sigmoid(0.1 * (w.mean_ratio - l.mean_ratio)) for w, l in pairs(batch)),
    "tr_dpo": dpo,
    "odpo": lambda batch: mean(-log_sigmoid(margin(w, l) - gap) for (w, l), gap in with_gap(batch)),
    "dpo_nll": lambda batch: dpo(batch) + chosen_nll(batch),
    "hinge": lambda batch: mean(max(0.0, 1 - margin(w, l)) for w, l in pairs(batch)),
    "apo_down": lambda batch: mean(sigmoid(0.1 * w.ratio) + 1 - sigmoid(margin(w, l)) for w, l in pairs(batch)),
    "nca_pair": lambda batch: mean(
        -log_sigmoid(0.1 * w.ratio) - (log_sigmoid(-0.1 * w.ratio) + log_sigmoid(-0.1 * l.ratio)) / 2
        for w, l in pairs(batch)
    ),
    "mpo": lambda batch: 0.8 * dpo(batch) + 0.2 * bco(batch) + chosen_nll(batch),
    "rda": lambda batch: mean((margin(w, l) - gap) ** 2 / 2 for (w, l), gap in with_gap(batch)),
}
ON_SCORES = {
    "ra_mean": lambda batch: mean(
        (0.1 * y.ratio + mean(r for _, r in group) - own) ** 2 / 2 for group in groups(batch) for y, own in group
    ),
    "ra": lambda batch: mean(
        (0.1 * y.ratio + 0.1 * sampled_log_partition([r for _, r in group]) - own) ** 2 / 2
        for group in groups(batch)
        for y, own in group
    ),
    "rwr": lambda batch: mean(-math.exp(r) * y.logp for y, r in rewarded(batch)),
}


@pytest.mark.parametrize("name", ON_PAIRS)
def test_a_variant_on_pairs_is_its_equation(name):
    batch = drawn()
    assert loss_of(name, batch) == pytest.approx(ON_PAIRS[name](batch), rel=1e-5)


@pytest.mark.parametrize("name", ON_SCORES)
def test_a_variant_on_rewards_is_its_equation(name):
    batch = scored(0)
    assert loss_of(name, batch) == pytest.approx(ON_SCORES[name](batch), rel=1e-5)


@pytest.mark.parametrize(("name", "log_ratio"), [("pra", "ratio"), ("pra_prior", "logp")])
def test_soft_labels_weigh_both_directions(name, log_ratio):
    batch = preferences(0, prompts=4)
    margins = [0.1 * (getattr(w, log_ratio) - getattr(l, log_ratio)) for w, l in pairs(batch)]
    labels = zip(margins, batch.probability.tolist(), strict=True)
    expected = mean(-p * log_sigmoid(h) - (1 - p) * log_sigmoid(-h) for h, p in labels)
    assert loss_of(name, batch) == pytest.approx(expected, rel=1e-5)


def test_unpaired_apo_is_told_from_zero():
    batch = labelled()
    expected = mean(sigmoid(-0.1 * y.ratio) if good else sigmoid(0.1 * y.ratio) for y, good in rewarded(batch))
    assert loss_of("apo_unpaired", batch) == pytest.approx(expected, rel=1e-5)


def test_unpaired_aot_sorts_the_ends_apart():
    batch = drawn(prompts=6)
    above, below = sorted(w.ratio for w, _ in pairs(batch)), sorted(l.ratio for _, l in pairs(batch))
    expected = mean(-log_sigmoid(0.1 * (a - b)) for a, b in zip(above, below, strict=True))
    assert loss_of("aot_unpaired", batch) == pytest.approx(expected, rel=1e-5)


def test_the_reference_of_tr_dpo_follows():
    reference = built(CONFIGS / "tr_dpo.yaml")[0].reference
    assert isinstance(reference, EMA)
    assert (reference.decay, reference.every) == (0.4, 50)


def test_the_custom_composition_is_simpo_and_a_twentieth_of_the_squared_log_ratio_of_a_token():
    batch = drawn()
    simpo = mean(-log_sigmoid(2.0 * (w.mean_logp - l.mean_logp) - 1.0) for w, l in pairs(batch))
    tokens = [a - b for y in responses(batch.sequences) for a, b in zip(y.policy, y.reference, strict=True)]
    expected = simpo + 0.05 * mean(token**2 / 2 for token in tokens)
    assert loss_of("custom", batch) == pytest.approx(expected, rel=1e-5)


def test_the_custom_composition_without_its_penalty_is_simpo():
    batch = drawn()
    first = built(CONFIGS / "custom.yaml")[0].loss.terms[0]
    simpo = built(CONFIGS / "simpo.yaml")[0].loss
    alone = value(Algorithm(Bigram(), simpo), batch)
    assert value(Algorithm(Bigram(), first, reference=FrozenBigram()), batch) == pytest.approx(alone)
    assert alone != pytest.approx(value(Algorithm(Bigram(), simpo, reference=FrozenBigram()), batch))


def test_weights_of_pairs_are_the_pair_law():
    batch = drawn()
    law = torch.arange(len(batch.chosen)) + 1.0
    weighed = dataclasses.replace(batch, weight=law)
    each = [-log_sigmoid(margin(w, l)) for w, l in pairs(batch)]
    expected = sum(w * loss for w, loss in zip(law.tolist(), each, strict=True)) / float(law.sum())
    assert loss_of("tr_dpo", weighed) == pytest.approx(expected, rel=1e-5)
