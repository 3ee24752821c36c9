"""Rows that are too long."""

import numpy as np
import pytest

from lit_rlhf.data.overflow import Limits, fitted, too_long
from lit_rlhf.data.records import Group

BOS = 99


def group(prompt, *completions):
    weights = tuple(np.ones(n, dtype=np.float32) for n in completions)
    return Group(np.array([BOS, *range(1, prompt)]), tuple(np.arange(100, 100 + n) for n in completions), weights)


def test_what_fits_is_left_as_it_is():
    whole = group(4, 3, 6)
    for limits in (Limits(), Limits(10, 4)):
        found = fitted(whole, limits)
        assert found.group is whole and not found.cut and found.why == ""


def test_what_is_too_long_is_told():
    assert too_long(group(4, 3, 6), Limits(9)) == "prompt and completion have 4 + 6 tokens, max_length is 9"
    assert too_long(group(4, 3), Limits(None, 3)) == "the prompt has 4 tokens, max_prompt_length is 3"


def test_room_is_left_for_the_completion_of_a_prompt_alone():
    assert too_long(group(4), Limits(9, room=5)) == ""
    assert too_long(group(4, 3), Limits(9, room=6)) == ""
    assert too_long(group(4), Limits(9, room=6)) == "prompt and model.sampler.max_new_tokens are 4 + 6 tokens, max_length is 9"
    assert too_long(group(4), Limits(9, room=5, context=8)).endswith("4 + 5 tokens, the model's context is 8")
    assert fitted(group(5), Limits(9, overflow="truncate_prompt_left", room=6), bos=BOS).group.prompt_ids.tolist() == [BOS, 3, 4]


@pytest.mark.parametrize("overflow", ["error", "drop"])
def test_error_and_drop_leave_the_row_out(overflow):
    found = fitted(group(4, 3, 6), Limits(9, overflow=overflow))
    assert found.group is None and found.why


def test_prompts_are_cut_at_their_beginning_and_keep_bos():
    found = fitted(group(5, 3, 6), Limits(9, overflow="truncate_prompt_left"), bos=BOS)
    assert found.cut and found.group.prompt_ids.tolist() == [BOS, 3, 4]
    assert [len(completion) for completion in found.group.completions] == [3, 6]
    assert fitted(group(5, 6), Limits(9, overflow="truncate_prompt_left")).group.prompt_ids.tolist() == [2, 3, 4]
    assert fitted(group(5, 1), Limits(None, 2, "truncate_prompt_left"), bos=BOS).group.prompt_ids.tolist() == [BOS, 4]


def test_completions_are_cut_at_their_end_with_their_weights():
    found = fitted(group(5, 3, 6), Limits(9, overflow="truncate_completion_right"))
    assert found.cut and [completion.tolist() for completion in found.group.completions] == [
        [100, 101, 102],
        [100, 101, 102, 103],
    ]
    assert [len(weights) for weights in found.group.token_weights] == [3, 4] and len(found.group.prompt_ids) == 5


def test_a_policy_cuts_only_what_it_names():
    assert fitted(group(2, 9), Limits(9, overflow="truncate_prompt_left")).group is None
    assert fitted(group(9, 2), Limits(9, overflow="truncate_completion_right")).group is None
    assert fitted(group(5, 2), Limits(9, 4, overflow="truncate_completion_right")).group is None


def test_the_row_is_not_changed_in_place():
    whole = group(5, 6)
    fitted(whole, Limits(9, overflow="truncate_prompt_left"))
    assert len(whole.prompt_ids) == 5
