"""Draws of the built-in task."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lit_rlhf.data import grammar
from lit_rlhf.data.collation import SIGNALS, tokens_of
from lit_rlhf.data.coverage import PairGraph, coverage
from lit_rlhf.data.identification import identification, scores
from lit_rlhf.data.review_groups import ReviewGroups, better_law


def drawn(signal: str, n: int = 64, seed: int = 0, labels: str = "soft", split: str = "train") -> ReviewGroups:
    return ReviewGroups(split, n, 3, signal, labels, seed)


@pytest.mark.parametrize(("signal", "law"), [("reward", lambda p: np.exp(grammar.log_law(p))), ("demonstration", better_law)])
def test_responses_are_drawn_from_their_law(signal, law):
    groups = drawn(signal, 40_000)
    reward = np.stack([grammar.rewards(prompt) for prompt in grammar.PROMPTS])
    for index, prompt in enumerate(grammar.PROMPTS):
        found, exact = reward[index, groups.drawn[groups.prompts == index]], law(prompt)
        mean, variance = exact @ reward[index], exact @ reward[index] ** 2 - (exact @ reward[index]) ** 2
        assert exact.sum() == pytest.approx(1)
        assert abs(found.mean() - mean) < 5 * (variance / found.size) ** 0.5


@pytest.mark.parametrize("signal", [signal for signal in SIGNALS if signal != "prompt"])
def test_groups_are_a_function_of_the_seed(signal):
    def all_of(seed: int) -> list[tuple]:
        groups = drawn(signal, seed=seed, labels="sampled")
        return [(g.row, *map(tuple, g.completions), g.rewards, g.labels, g.pairs) for g in (groups[i] for i in range(64))]

    assert all_of(0) == all_of(0) != all_of(1)


@pytest.mark.parametrize("signal", SIGNALS)
def test_lengths_are_known_without_making_groups(signal):
    groups = drawn(signal)
    prompts, responses = groups.lengths
    assert (prompts + responses.sum(1)).tolist() == [tokens_of(groups[index]) for index in range(len(groups))]


def test_prompts_come_in_turn_with_their_text_and_no_response():
    groups = [drawn("prompt")[index] for index in range(16)]
    assert [group.record.prompt for group in groups] == [*grammar.PROMPTS] * 2
    assert [grammar.decoded(group.prompt_ids) for group in groups] == [*grammar.PROMPTS] * 2
    assert {group.completions for group in groups} == {()}
    assert groups[9].record.row == groups[9].row == "reviews:train:10"


@pytest.mark.parametrize("n", [5, 64])
def test_coverage_is_that_of_the_groups(n):
    groups = drawn("preference", n)
    assert groups.coverage == coverage(PairGraph.of(groups))


@pytest.mark.parametrize("labels", ["soft", "sampled", "hard"])
def test_identification_is_that_of_the_groups(labels):
    groups = drawn("preference", 200, labels=labels)
    assert groups.identification == identification(PairGraph.of(groups))


def test_scores_are_those_of_the_groups():
    found, expected = drawn("preference", 200).scores, scores(drawn("reward", 200))
    assert dataclasses.replace(found, rows=200) == expected and drawn("reward", 200).scores == found


def test_splits_are_drawn_apart():
    assert not np.array_equal(drawn("reward").drawn, drawn("reward", split="val").drawn)


def test_there_is_no_group_beyond_the_last():
    with pytest.raises(IndexError):
        drawn("reward", 4)[4]
