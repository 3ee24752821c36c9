"""What small graphs identify, against closed forms; and against the loss itself."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import linprog

from lit_rlhf.data.coverage import PairGraph
from lit_rlhf.data.identification import identification, scores
from lit_rlhf.data.records import Group, Pair


def group(prompt, responses, *pairs, rewards=None):
    completions = tuple(np.array([response]) for response in responses)
    return Group(np.array([prompt]), completions, rewards=rewards, pairs=tuple(Pair(*pair) for pair in pairs))


def of(*groups):
    return identification(PairGraph.of(groups))


def test_a_single_certain_label_has_no_finite_optimum_and_a_soft_one_has():
    found = of(group(1, (1, 2), (0, 1)), group(2, (1, 2), (0, 1, 0.9)), group(3, (1, 2), (0, 1, 0.0)))
    assert (found.prompts, found.pairs, found.finite, found.single_certain, found.certain) == (3, 3, 1, 2, 2)
    assert found.curvature == pytest.approx(4 * 0.9 * 0.1 / 3)


def test_a_chain_of_certain_labels_is_not_finite_and_a_cycle_is():
    chain, cycle = ((0, 1), (1, 2), (2, 3)), ((0, 1), (1, 2), (2, 0))
    found = of(group(1, range(4), *chain))
    assert (found.finite, found.single_certain, found.cyclic, found.unbeaten, found.winless) == (0, 0, 0, 1, 1)
    found = of(group(1, range(3), *cycle))
    assert (found.finite, found.cyclic, found.unbeaten, found.winless) == (1, 1, 0, 0)


def test_a_cycle_leaves_what_hangs_on_it_without_an_optimum():
    found = of(group(1, range(4), (0, 1), (1, 2), (2, 0), (2, 3)))
    assert (found.finite, found.cyclic, found.winless) == (0, 1, 1)


def test_a_soft_cycle_counts_by_the_preferred_ends():
    found = of(group(1, range(3), (0, 1, 0.6), (1, 2, 0.6), (2, 0, 0.6)), group(2, range(3), (0, 1, 0.6), (1, 2, 0.6), (0, 2, 0.6)))
    assert (found.finite, found.cyclic, found.certain) == (2, 1, 0)


def test_components_are_finite_one_by_one():
    soft = group(1, range(4), (0, 1, 0.7), (2, 3, 0.7))
    half = group(2, range(4), (0, 1, 0.7), (2, 3, 1.0))
    assert (of(soft).finite, of(half).finite) == (1, 0)


def test_repeated_pairs_that_contradict_are_finite_noise_and_no_cycle():
    rows = [group(1, (1, 2), (0, 1))] * 3 + [group(1, (2, 1), (0, 1))]
    found = of(*rows)
    assert (found.distinct, found.repeated, found.contradicted, found.finite, found.cyclic) == (1, 1, 1, 1, 0)
    assert found.disagreement == pytest.approx(3 * 1 / 6) and found.single_certain == 0
    assert of(*rows[:3]).single_certain == 1 and of(*rows[:3]).disagreement == 0


def test_two_labels_disagree_as_often_as_labels_flip():
    rate, generator = 0.2, np.random.default_rng(0)
    rows = [
        group(prompt, (1, 2), (0, 1) if generator.random() > rate else (1, 0)) for prompt in range(2000) for _ in range(4)
    ]
    assert of(*rows).disagreement == pytest.approx(2 * rate * (1 - rate), abs=0.02)


def test_identical_ends_are_ties_that_say_nothing():
    assert of(group(1, (5, 5), (0, 1, 0.5))) is None and of() is None
    found = of(group(1, (5, 5), (0, 1, 0.5)), group(2, (1, 2), (0, 1, 0.5)))
    assert (found.prompts, found.pairs, found.distinct, found.ties) == (1, 2, 1, 2)


def test_support_counts_comparisons():
    found = of(group(1, range(4), (0, 1), (0, 2), (0, 3)))
    assert (found.compared, found.responses, found.once) == ((1, 1, 3), 4, 3)
    assert (found.unbeaten, found.winless) == (1, 3)


def test_a_finite_optimum_is_where_no_direction_lowers_the_loss_for_ever():
    generator = np.random.default_rng(1)
    seen = set()
    for _ in range(60):
        ends = [tuple(generator.choice(4, 2, replace=False)) for _ in range(generator.integers(3, 9))]
        labels = generator.choice([0.0, 0.5, 1.0], size=len(ends), p=[0.35, 0.1, 0.55])
        found = of(group(1, range(4), *((int(a), int(b), float(p)) for (a, b), p in zip(ends, labels, strict=True))))
        finite = _gain(ends, labels) < 1e-9
        assert (found.finite == 1) == finite
        seen.add(finite)
    assert seen == {True, False}


def _gain(ends, labels) -> float:
    """The largest sum of differences along a direction in which no term -p log sigma(h) - (1 - p) log sigma(-h) rises."""
    signs = [(a, b) for (a, b), p in zip(ends, labels, strict=True) if p > 0] + [(b, a) for (a, b), p in zip(ends, labels, strict=True) if p < 1]
    rises = np.array([np.eye(4)[a] - np.eye(4)[b] for a, b in signs])
    return -linprog(-rises.sum(0), A_ub=-rises, b_ub=np.zeros(len(rises)), bounds=(-1, 1)).fun


def test_scores_say_what_each_family_sees():
    rows = [
        group(1, (1, 2, 3), rewards=(1.0, 1.0, 3.0)), group(2, (1,), rewards=(5.0,)), group(3, (1, 2), rewards=(2.0, 2.0)),
    ]
    found = scores(rows)
    assert (found.prompts, found.responses, found.alone, found.constant, found.distinct) == (3, 6, 1, 1, 4)
    assert (found.pairs, found.ties, found.spread, found.gap) == (4, 2, (0.0, 1.0, 2.0), 1.0)
    assert scores(rows, most=1).pairs == 3 and scores(rows, most=1).rows == 1


def test_a_response_that_is_scored_again_counts_once_with_its_mean():
    rows = [group(1, (1, 2), rewards=(0.0, 4.0)), group(1, (1,), rewards=(2.0,))]
    found = scores(rows)
    assert (found.responses, found.pairs, found.spread) == (2, 1, (3.0, 3.0, 3.0))


def test_without_rewards_there_are_no_scores():
    assert scores([group(1, (1, 2), (0, 1))]) is None and scores([]) is None


def test_numbers_are_plain():
    found = of(group(1, range(3), (0, 1), (1, 2, 0.5)))
    assert {type(value) for value in dataclasses.asdict(found).values()} <= {int, float, tuple}
