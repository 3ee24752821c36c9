"""The padded layout: the right states, little padding, no mask."""

import pytest
import torch
from components.tiny import rows, sequences

from lit_rlhf.components.attention import Padded
from lit_rlhf.errors import InputError
from lit_rlhf.types import Sequences


class Running:
    """A causal backbone that is easy to say: state t is the running sum of ids, with the position; calls are noted."""

    def __init__(self):
        self.shapes = []

    def __call__(self, input_ids):
        self.shapes.append(tuple(input_ids.shape))
        place = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
        return torch.stack([input_ids.cumsum(1), place], -1).float()


@pytest.mark.parametrize("waste", [0.0, 0.15, 0.5, 1.0])
def test_states_of_a_range_of_every_row(waste):
    given = sequences()
    first = given.prompt_lengths[given.prompt_of] - 1
    found = Padded(waste).states(Running(), given, first, given.completion_lengths)
    expected = [
        (int(torch.cat([prompt, completion[:t]]).sum()), len(prompt) - 1 + t)
        for prompt, completion in rows(given)
        for t in range(len(completion))
    ]
    assert found.tolist() == [list(map(float, pair)) for pair in expected]


def lengths_only(lengths):
    """One prompt of one token, and a completion so long that the rows have these lengths."""
    completions = torch.tensor(lengths) - 1
    return Sequences(
        torch.tensor([1]), torch.tensor([1]), torch.ones(int(completions.sum()), dtype=torch.long), completions,
        torch.zeros(len(lengths), dtype=torch.long),
    )


def shapes(waste, lengths):
    backbone, given = Running(), lengths_only(lengths)
    Padded(waste).states(backbone, given, torch.zeros(len(lengths), dtype=torch.long), given.completion_lengths)
    return backbone.shapes


def test_equal_lengths_are_one_call_without_padding():
    assert shapes(0.0, [6] * 5) == [(5, 6)]


def test_at_most_so_much_padding():
    lengths = [3, 40, 5, 41, 12, 44, 13, 4, 6, 7, 90]
    for waste in (0.0, 0.1, 0.3):
        found = shapes(waste, lengths)
        padded, ordered = sum(rows * width for rows, width in found), sorted(lengths)
        assert sum(count for count, _ in found) == len(lengths)
        for count, width in found:
            assert 1 - sum(ordered[:count]) / (count * width) <= waste
            ordered = ordered[count:]
        assert padded <= sum(lengths) / (1 - waste)
    assert shapes(1.0, lengths) == [(11, 90)]


def test_a_share_is_a_share():
    with pytest.raises(InputError, match="waste is 2"):
        Padded(2)
