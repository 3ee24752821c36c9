"""Connected components of pair graphs."""

import numpy as np

from lit_rlhf.data.coverage import PairGraph, coverage
from lit_rlhf.data.records import Group, Pair


def group(prompt, responses, *pairs):
    return Group(
        np.array([prompt]),
        tuple(np.array([response]) for response in responses),
        pairs=tuple(Pair(*pair) for pair in pairs),
    )


def coverage_of(groups, most=None):
    return coverage(PairGraph.of(groups, most))


def test_a_chain_is_connected_and_two_pairs_are_not():
    found = coverage_of([group(1, (1, 2, 3, 4), (0, 1), (1, 2), (2, 3)), group(2, (1, 2, 3, 4), (0, 1), (2, 3))])
    assert (found.prompts, found.responses, found.pairs, found.components, found.connected) == (2, 8, 5, 3, 1)
    assert (found.responses_per_prompt, found.pairs_per_prompt) == (4.0, 2.5)


def test_the_same_prompt_and_response_in_several_rows_count_once():
    found = coverage_of([group(1, (1, 2), (0, 1)), group(1, (2, 3), (0, 1)), group(1, (4, 5), (0, 1))])
    assert (found.prompts, found.responses, found.components, found.connected) == (1, 5, 2, 0)


def test_responses_without_pairs_are_apart():
    found = coverage_of([group(1, (1, 2, 3))])
    assert (found.pairs, found.components, found.connected) == (0, 3, 0)
    assert coverage_of([]).prompts == 0


def test_a_part_of_many_rows_says_so():
    found = coverage_of([group(index, (1, 2), (0, 1)) for index in range(5)], most=3)
    assert (found.rows, found.prompts, found.pairs) == (3, 3, 3)
