import pytest
import torch

from lit_rlhf.types import PreferenceBatch, Rollout, ScoredBatch, Sequences, every_pair, segment_indices


def sequences(weight=None):
    """Three prompts of 2, 3 and 1 tokens; five completions of 3, 2, 4, 1, 2 tokens."""
    return Sequences(
        torch.arange(6), torch.tensor([2, 3, 1]), torch.arange(10, 22), torch.tensor([3, 2, 4, 1, 2]),
        torch.tensor([2, 0, 0, 1, 2]), weight,
    )


def test_segment_indices_are_those_of_a_loop():
    lengths = torch.tensor([3, 1, 4, 2])
    whole = list(torch.arange(10).split(lengths.tolist()))
    which = torch.tensor([2, 0, 3])
    assert segment_indices(lengths, which).tolist() == torch.cat([whole[k] for k in which]).tolist()


def test_select_keeps_order_and_the_prompts_in_order_of_first_use():
    chosen = sequences(weight=torch.arange(12.0)).select(torch.tensor([3, 0, 4]))
    assert chosen.prompt_ids.tolist() == [2, 3, 4, 5]
    assert chosen.prompt_lengths.tolist() == [3, 1]
    assert chosen.completion_ids.tolist() == [19, 10, 11, 12, 20, 21]
    assert chosen.completion_lengths.tolist() == [1, 3, 2]
    assert chosen.prompt_of.tolist() == [0, 1, 1]
    assert chosen.weight.tolist() == [9, 0, 1, 2, 10, 11]


@pytest.mark.parametrize("field", ["prompt_lengths", "completion_lengths"])
def test_an_empty_segment_is_refused_by_name(field):
    whole = sequences()
    broken = {name: getattr(whole, name) for name in ("prompt_ids", "prompt_lengths", "completion_ids", "completion_lengths", "prompt_of")}
    lengths = broken[field].clone()
    lengths[0], lengths[1] = 0, lengths[0] + lengths[1]
    with pytest.raises(ValueError, match=rf"{field}\[0\] is 0"):
        Sequences(**broken | {field: lengths})


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="completion_ids"):
        Sequences(torch.arange(2), torch.tensor([2]), torch.arange(5), torch.tensor([4]), torch.tensor([0]))


def test_wrong_shapes_are_refused_rather_than_broadcast():
    with pytest.raises(ValueError, match="reward"):
        ScoredBatch(sequences(), reward=torch.zeros(5, 1))
    with pytest.raises(ValueError, match="probability"):
        PreferenceBatch(sequences(), torch.tensor([1]), torch.tensor([2]), torch.ones(3))
    with pytest.raises(ValueError, match="behaviour"):
        Rollout(sequences(), behaviour=torch.zeros(5), reward=torch.zeros(5))


def test_every_pair_is_each_pair_within_a_prompt_once_with_the_better_chosen():
    reward = torch.tensor([1.0, 5.0, 2.0, 3.0, 4.0])
    law = torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0])
    pairs, weighed = every_pair(sequences(), reward), every_pair(sequences(), reward, law)
    assert weighed.weight.tolist() == [min(law[i], law[j]) for i, j in zip(pairs.chosen, pairs.rejected, strict=True)]
    assert {*zip(pairs.chosen.tolist(), pairs.rejected.tolist())} == {(1, 2), (4, 0)}
    assert pairs.reward_gap.tolist() == (reward[pairs.chosen] - reward[pairs.rejected]).tolist()
    assert torch.equal(pairs.probability, 1 / (1 + torch.exp(-pairs.reward_gap)))


def test_counts_are_sums_of_weights():
    weight, law = torch.arange(12.0), torch.tensor([1.0, 0, 2, 0, 3])
    scored = ScoredBatch(sequences(weight), torch.zeros(5), weight=law)
    of_rows = weight.split(scored.sequences.completion_lengths.tolist())
    assert scored.count("sequence") == 6
    assert scored.count("token") == sum(share * row.sum() for share, row in zip(law, of_rows, strict=True))
    pairs = PreferenceBatch(sequences(), torch.tensor([1, 4]), torch.tensor([2, 0]), torch.ones(2), weight=torch.tensor([0.5, 2]))
    lengths = sequences().completion_lengths.tolist()
    assert (pairs.count("pair"), pairs.count("sequence")) == (2.5, 4)  # sequence 3 is in no pair
    assert pairs.count("token") == 12 - lengths[3]
    assert pairs.count("chosen_token") == 0.5 * lengths[1] + 2 * lengths[4]
    with pytest.raises(ValueError, match="pair"):
        scored.count("pair")


def test_split_keeps_groups_whole_and_loses_nothing():
    pairs = every_pair(sequences(), torch.tensor([1.0, 5.0, 2.0, 3.0, 4.0]))
    parts = pairs.split(8)
    assert [part.sequences.group_tokens().tolist() for part in parts] == [[8], [4], [6]]
    assert sum(part.count("pair") for part in parts) == pairs.count("pair")
    ends = {(part.sequences.completion_ids[segment_indices(part.sequences.completion_lengths, part.chosen)].tolist()[0]) for part in parts if len(part.chosen)}
    assert ends == {13, 20}


def test_split_refuses_a_group_larger_than_the_budget_with_the_number_needed():
    with pytest.raises(ValueError, match="8 tokens.*token_budget=7"):
        ScoredBatch(sequences(), torch.zeros(5)).split(7)


def test_to_moves_nested_containers():
    moved = ScoredBatch(sequences(), torch.zeros(5)).to("meta")
    assert moved.sequences.completion_ids.device.type == "meta" and moved.reward.device.type == "meta"


def test_rollout_select_follows_tokens_and_sequences():
    rollout = Rollout(sequences(), behaviour=torch.arange(12.0), reward=torch.arange(5.0), advantages=torch.arange(12.0))
    part = rollout.select(torch.tensor([2, 4]))
    assert part.behaviour.tolist() == [5, 6, 7, 8, 10, 11] and part.reward.tolist() == [2, 4] and part.values is None
    assert {*zip(rollout.pairs().chosen.tolist(), rollout.pairs().rejected.tolist())} == {(2, 1), (4, 0)}
