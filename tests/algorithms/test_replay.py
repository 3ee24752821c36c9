"""A buffer of old groups: which are drawn, what they carry, and what a checkpoint keeps of them."""

import dataclasses
import datetime
import io

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lit_rlhf.algorithms.pairing import Collected
from lit_rlhf.algorithms.recording import Recorder
from lit_rlhf.algorithms.replay import Replay
from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Response
from lit_rlhf.types import Kept, Law, PromptRecord, Rollout, Sequences

LENGTHS = (2, 1, 3, 1, 2, 2)
OF = (0, 0, 1, 1, 2, 2)
RECORD = {"answer": "4", "extra": {"level": 3, "on": datetime.date(2020, 1, 2)}, "row": "a.jsonl:1"}


def collected(iteration, kept=False, dead=(), index=(2, 0, 1)):
    """Three prompts with two completions each; every number says which iteration and token it is of."""
    tokens, lengths = sum(LENGTHS), torch.tensor(LENGTHS)
    sequences = Sequences(
        torch.tensor([iteration, 7, 8, iteration]), torch.tensor([1, 2, 1]), torch.arange(tokens) + 100 * iteration, lengths,
        torch.tensor(OF),
    )
    behaviour = -torch.arange(tokens) / 10.0 - iteration
    weight = torch.ones(len(OF)).index_fill(0, torch.tensor(dead, dtype=torch.long), 0.0)
    sets = Kept(torch.arange(tokens), torch.ones(tokens, dtype=torch.long)) if kept else None
    rollout = Rollout(
        sequences, behaviour, torch.arange(6.0) + iteration, reference=behaviour - 1, advantages=behaviour + 1,
        weight=weight, finished=torch.tensor([True, False] * 3), law=Law(0.7, sets),
    )
    record = PromptRecord(({"role": "user", "content": f"of {iteration}"},), **RECORD)
    responses = tuple(Response(record, f"{iteration}/{row}", (row,), row % 2 == 0, OF[row]) for row in range(6))
    return Collected(rollout, responses, torch.tensor(index), iteration)


def filled(replay, iterations):
    """What it gives for the last of so many iterations."""
    for iteration in range(iterations):
        found = replay.mixed(collected(iteration), Recorder())
    return found


def old_part(found):
    """The replayed groups as (iteration, place in it, rollout)."""
    prompts = range(3, len(found.index))
    parts = [found.rollout.select((found.rollout.sequences.prompt_of == prompt).nonzero()[:, 0]) for prompt in prompts]
    return [(int(part.sequences.completion_ids[0]) // 100, part) for part in parts]


def test_the_first_iteration_is_itself():
    given = collected(0)
    found = Replay().mixed(given, Recorder())
    assert torch.equal(found.rollout.behaviour, given.rollout.behaviour) and found.responses == given.responses
    assert torch.equal(found.index, given.index)


def test_old_groups_come_whole_after_the_new_ones_with_all_they_were_recorded_with():
    found = filled(Replay(reuse=2.0), 3)
    assert found.index.tolist() == [2, 0, 1, 3, 4, 5, 6, 7, 8]
    assert len(found.responses) == len(found.rollout.reward) == 18
    for iteration, part in old_part(found):
        prompt = OF[(part.sequences.completion_ids[0] % 100 >= torch.tensor(LENGTHS).cumsum(0)).sum()]
        rows = torch.tensor([2 * prompt, 2 * prompt + 1])
        expected = collected(iteration).rollout.select(rows)
        for field in dataclasses.fields(Rollout):
            ours, theirs = getattr(part, field.name), getattr(expected, field.name)
            if isinstance(theirs, torch.Tensor):
                assert torch.equal(ours, theirs), field.name
        assert torch.equal(part.sequences.prompt_ids, expected.sequences.prompt_ids) and part.law.temperature == 0.7
    texts = [response.text for response in found.responses[6:]]
    of = found.rollout.sequences.prompt_of.tolist()
    assert [response.group for response in found.responses] == of
    assert texts == [f"{int(r) - row}/{row}" for r, row in zip(found.rollout.reward[6:].tolist(), map(_row, texts), strict=True)]


def _row(text):
    return int(text.partition("/")[2])


def test_the_sets_that_were_left_to_choose_from_travel_with_the_tokens():
    replay = Replay(reuse=1.0)
    replay.mixed(collected(0), Recorder())
    found = replay.mixed(collected(1, kept=True), Recorder())
    lengths = found.rollout.law.kept.lengths
    assert lengths.tolist() == [1] * 11 + [0] * 11
    found = replay.mixed(collected(2, kept=True), Recorder())
    tokens = found.rollout.sequences.completion_ids
    expected = [int(token) % 100 for token in tokens if int(token) >= 100]
    assert found.rollout.law.kept.ids.tolist() == expected


def test_what_is_drawn_is_a_function_of_buffer_seed_and_iteration():
    def rows(found):
        return found.rollout.sequences.completion_ids.tolist()

    assert rows(filled(Replay(), 5)) == rows(filled(Replay(), 5)) != rows(filled(Replay(seed=1), 5))
    replay = Replay()
    filled(replay, 5)
    places = {tuple(group.place for group in replay.drawn(3, iteration)) for iteration in range(20)}
    assert len(places) > 5
    assert all(len({id(group) for group in replay.drawn(10, iteration)}) == 10 for iteration in range(5))


def test_capacity_and_reuse_bound_what_is_kept_and_added():
    replay = Replay(capacity=4, reuse=0.34)
    found = filled(replay, 4)
    assert len(found.index) == 3 + 1
    assert [(group.iteration, group.place) for group in replay.groups] == [(2, 2), (3, 0), (3, 1), (3, 2)]
    assert len(filled(Replay(reuse=5.0), 2).index) == 3 + 3  # no more than there are


def test_groups_of_which_nothing_counts_are_not_kept():
    replay = Replay()
    replay.mixed(collected(0, dead=(2, 3, 4)), Recorder())
    assert [group.place for group in replay.groups] == [1, 2]
    assert replay.groups[0].rollout.weight.tolist() == [0.0, 1.0]


def test_staleness_is_the_mean_age_of_a_group():
    replay, recorder = Replay(reuse=1.0), Recorder()
    replay.mixed(collected(0), Recorder())
    replay.mixed(collected(4), recorder)
    assert recorder.flush() == {"rollout/staleness": 4 * 3 / 6, "rollout/replayed": 0.5}
    old = replay.drawn(3, 5)
    replay.mixed(collected(5), recorder)
    assert recorder.flush()["rollout/staleness"] == sum(5 - group.iteration for group in old) / 6


@pytest.mark.parametrize("kept", [False, True])
def test_a_checkpoint_gives_the_same_draws_back(kept):
    replay, again, file = Replay(), Replay(), io.BytesIO()
    for iteration in range(3):
        replay.mixed(collected(iteration, kept), Recorder())
    torch.save(replay.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    ours, theirs = (one.mixed(collected(3, kept), Recorder()) for one in (again, replay))
    for name in (*Rollout.per_token, *Rollout.per_sequence):
        one, other = getattr(ours.rollout, name), getattr(theirs.rollout, name)
        assert one is other is None or torch.equal(one, other), name
    assert torch.equal(ours.rollout.sequences.completion_ids, theirs.rollout.sequences.completion_ids)
    assert ours.responses == theirs.responses and torch.equal(ours.index, theirs.index)
    smaller = Replay(capacity=2)
    smaller.load_state_dict(replay.state_dict())
    assert [group.place for group in smaller.groups] == [1, 2]


def test_columns_come_back_as_json_knows_them():
    replay = Replay()
    replay.mixed(collected(0), Recorder())
    record = replay.groups[0].responses[0].record
    assert record.prompt == ({"role": "user", "content": "of 0"},) and record.answer == "4"
    assert record.extra == {"level": 3, "on": "2020-01-02"}


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"reuse": 0.0}])
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match="capacity is at least 1 and reuse above 0"):
        Replay(**wrong)


def places(found):
    """(place in this iteration, tokens) of every group."""
    of = found.rollout.sequences.prompt_of
    return {
        (place, tuple(found.rollout.select((of == prompt).nonzero()[:, 0]).sequences.completion_ids.tolist()))
        for prompt, place in enumerate(found.index.tolist())
    }


def share(iteration, prompts):
    """The part of an iteration that a rank with these prompts has."""
    whole = collected(iteration)
    rows = torch.isin(whole.rollout.sequences.prompt_of, torch.tensor(prompts)).nonzero()[:, 0]
    responses = tuple(whole.responses[row] for row in rows.tolist())
    return Collected(whole.rollout.select(rows), responses, whole.index[prompts], iteration)


def _rank(rank, store, queue):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    replay = Replay(reuse=2.0)
    for iteration in range(4):
        found = replay.mixed(share(iteration, [[0], [1, 2]][rank]), Recorder())
    queue.put((places(found), [(group.iteration, group.place) for group in replay.groups]))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_draw_what_one_does_and_both_hold_the_buffer(tmp_path):
    alone, queue = Replay(reuse=2.0), mp.get_context("fork").SimpleQueue()
    whole = filled(alone, 4)
    mp.start_processes(_rank, args=(str(tmp_path / "store"), queue), nprocs=2, start_method="fork")
    parts = [queue.get() for _ in range(2)]
    assert parts[0][0] | parts[1][0] == places(whole) and not parts[0][0] & parts[1][0]
    assert all(groups == [(group.iteration, group.place) for group in alone.groups] for _, groups in parts)
