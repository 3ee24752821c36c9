"""Prompt groups to containers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_rlhf.data.collation import collate, refuse_crowded, refuse_oversized, signal_of, tokens_of
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.errors import InputError
from lit_rlhf.types import PromptRecord

FIRST = Group(
    prompt_ids=np.array([1, 2]), completions=(np.array([3]), np.array([4, 5]), np.array([6, 7, 8])),
    rewards=(0.5, 1.5, -1.0), pairs=(Pair(1, 0, 0.7, 1.0), Pair(2, 1, 1.0, -2.5, 0.5)), row="a:1", weight=2.0,
)
SECOND = Group(
    prompt_ids=np.array([9]), completions=(np.array([10, 11]), np.array([12])), token_weights=(np.array([0.0, 1.0]), np.array([1.0])),
    rewards=(2.0, 3.0), labels=(1.0, 0.0), pairs=(Pair(0, 1, 0.6, 0.4),), row="a:2",
)


@pytest.mark.parametrize(("needs", "signal"), [
    ({"chosen", "reward_gap", "policy"}, "gap"), ({"chosen", "policy", "reference"}, "preference"), ({"reward"}, "reward"),
    ({"label", "reference"}, "label"), ({"policy"}, "demonstration"), ({"prompt", "chosen", "reward_gap", "reward"}, "prompt"),
])
def test_the_signal_follows_from_what_the_head_reads(needs, signal):
    assert signal_of(needs) == signal


def test_sequences_are_concatenated():
    sequences = collate([FIRST, SECOND], "reward").sequences
    assert sequences.prompt_ids.tolist() == [1, 2, 9] and sequences.prompt_lengths.tolist() == [2, 1]
    assert sequences.completion_ids.tolist() == list(range(3, 9)) + [10, 11, 12]
    assert sequences.completion_lengths.tolist() == [1, 2, 3, 2, 1]
    assert sequences.prompt_of.tolist() == [0, 0, 0, 1, 1]
    assert sequences.weight.tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 1]
    assert {sequences.prompt_ids.dtype, sequences.completion_ids.dtype, sequences.prompt_of.dtype} == {torch.int64}


def test_pairs_point_into_the_batch_and_weigh_with_their_group():
    batch = collate([SECOND, FIRST], "gap")
    assert batch.chosen.tolist() == [0, 3, 4] and batch.rejected.tolist() == [1, 2, 3]
    torch.testing.assert_close(batch.probability, torch.tensor([0.6, 0.7, 1.0]))
    torch.testing.assert_close(batch.reward_gap, torch.tensor([0.4, 1.0, -2.5]))
    assert batch.weight.tolist() == [1.0, 2.0, 1.0]


def test_gaps_that_are_not_all_known_are_left_out():
    unknown = Group(prompt_ids=np.array([1]), completions=(np.array([2]), np.array([3])), pairs=(Pair(0, 1, 1.0),), row="a:3")
    assert collate([SECOND, unknown], "preference").reward_gap is None
    assert collate([unknown], "preference").weight is None


def test_scored_sequences_have_rewards_labels_or_ones():
    assert collate([FIRST, SECOND], "reward").reward.tolist() == [0.5, 1.5, -1.0, 2.0, 3.0]
    assert collate([FIRST, SECOND], "reward").weight.tolist() == [2.0, 2.0, 2.0, 1.0, 1.0]
    assert collate([SECOND], "label").reward.tolist() == [1.0, 0.0]
    assert collate([SECOND], "demonstration").reward.tolist() == [1.0, 1.0]
    assert collate([SECOND], "demonstration").weight is None


@pytest.mark.parametrize("signal", ["gap", "reward"])
def test_what_does_not_count_adds_nothing_to_any_count(signal):
    batch = collate([FIRST, SECOND], signal, counted=False)
    weights = [batch.sequences.weight, batch.weight]
    assert all(float(weight.abs().sum()) == 0 for weight in weights)
    assert torch.equal(batch.sequences.completion_ids, collate([FIRST, SECOND], signal).sequences.completion_ids)


def test_prompts_have_their_records_places_and_weights():
    first, second = (PromptRecord(text, "4", {"level": 1}, f"a:{text}") for text in "xy")
    groups = [Group(np.array([1, 2]), (), weight=2.0, record=first), Group(np.array([9]), (), record=second)]
    prompts = collate(groups, "prompt", index=(3, 0))
    assert prompts.prompt_ids.tolist() == [1, 2, 9] and prompts.prompt_lengths.tolist() == [2, 1]
    assert prompts.records == (first, second)
    assert prompts.index.tolist() == [3, 0] and prompts.weight.tolist() == [2.0, 1.0]
    assert collate(groups, "prompt", counted=False).weight.tolist() == [0.0, 0.0]
    assert collate(groups, "prompt").index.tolist() == [0, 1]


def test_a_prompt_that_leaves_no_room_is_refused_by_row_and_key():
    groups, tokens = [SECOND, FIRST], np.array([1, 2])
    refuse_crowded(groups, tokens, 3, 5)
    refuse_crowded(groups, tokens, 3, None)
    with pytest.raises(InputError, match="a:1: the prompt has 2 tokens .* model.sampler.max_new_tokens=4, .* context is 5"):
        refuse_crowded(groups, tokens, 4, 5)


def test_tokens_count_the_prompt_once():
    assert tokens_of(FIRST) == 2 + 1 + 2 + 3
    with pytest.raises(InputError, match="a:1: .* 8 tokens together, more than data.micro_batch_tokens=7"):
        refuse_oversized([SECOND, FIRST], np.array([4, 8]), 7)
