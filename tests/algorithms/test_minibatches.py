"""Which prompts make which update, and in which micro-batches."""

import numpy as np
import pytest
import torch
from support import random_sequences, scored

from lit_rlhf.algorithms import minibatches
from lit_rlhf.errors import InputError
from lit_rlhf.types import Rollout

PROMPTS, EACH = 7, 3


def rollout(prompts=PROMPTS):
    sequences = random_sequences(3, prompts, EACH)
    draw = torch.Generator().manual_seed(0)
    behaviour = torch.randn(len(sequences.completion_ids), generator=draw)
    return Rollout(sequences, behaviour, torch.randn(prompts * EACH, generator=draw), weight=1 + torch.rand(prompts * EACH, generator=draw))


def counts(parts):
    return {unit: sum(float(part.count(unit)) for part in parts) for unit in parts[0].units}


def rewards(parts):
    """Those of the sequences that count, in order."""
    return sorted(value for part in parts for value in part.reward[part.sequence_weight > 0].tolist())


def least(batch):
    """The smallest budget that holds every group."""
    return int(batch.sequences.group_tokens().max())


def test_an_order_cuts_all_places_into_parts_of_nearly_equal_size():
    parts = minibatches.orders(10, 3, seed=0, iteration=4, epoch=1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(10))
    assert sorted(map(len, parts)) == [3, 3, 4]
    assert [len(part) for part in minibatches.orders(2, 5, 0, 0, 0)] == [1, 1]


def test_an_order_is_a_function_of_seed_iteration_and_epoch():
    def order(*numbers):
        return np.concatenate(minibatches.orders(12, 2, *numbers)).tolist()

    assert order(0, 1, 2) == order(0, 1, 2)
    assert len({tuple(order(*numbers)) for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}) == 4


@pytest.mark.parametrize("kind", ["rollout", "pairs"])
def test_an_update_has_the_groups_of_its_part_whole_and_once_under_the_budget(kind):
    given = rollout()
    batch = given if kind == "rollout" else given.pairs()
    index, part, budget = torch.arange(PROMPTS) + 5, np.array([11, 6, 8]), least(given)
    found = minibatches.micro_batches(batch, index, part, budget)
    assert len(found) > 1 and all(int(one.sequences.group_tokens().sum()) <= budget for one in found)
    chosen = given.select(torch.isin(given.sequences.prompt_of, torch.tensor([6, 1, 3])).nonzero()[:, 0])
    drawn = found if kind == "rollout" else [one.drawn for one in found]
    assert rewards(drawn) == rewards([chosen])
    assert all(len(torch.unique(one.sequences.prompt_of)) * EACH == len(one.reward) for one in drawn)
    whole = chosen if kind == "rollout" else chosen.pairs()
    assert counts(found) == pytest.approx(counts([whole]))


def test_memory_and_ranks_change_no_sum(monkeypatch):
    given, part = rollout(), np.array([0, 2, 3, 5, 6])
    whole = minibatches.micro_batches(given, torch.arange(PROMPTS), part, 4096)
    assert len(whole) == 1
    monkeypatch.setattr(minibatches, "largest_over_ranks", lambda count, device: max(count, 4))
    mine, others = (
        minibatches.micro_batches(given.select(own), torch.tensor(places), part, least(given))
        for own, places in ((torch.arange(6, 15), (2, 3, 4)), (torch.tensor([0, 1, 2, 15, 16, 17, 18, 19, 20, 3, 4, 5]), (0, 5, 6, 1)))
    )
    assert len(mine) == len(others) == 4
    assert counts([*mine, *others]) == pytest.approx(counts(whole)) and rewards([*mine, *others]) == rewards(whole)


@pytest.mark.parametrize("kind", ["rollout", "pairs"])
def test_a_rank_without_groups_in_a_part_keeps_in_step_with_repeats_that_weigh_nothing(kind, monkeypatch):
    monkeypatch.setattr(minibatches, "largest_over_ranks", lambda count, device: 2)
    given = rollout()
    batch = given if kind == "rollout" else given.pairs()
    found = minibatches.micro_batches(batch, torch.arange(PROMPTS), np.array([20, 21]), 4096)
    assert len(found) == 2 and set(counts(found).values()) == {0.0}
    smallest = int(given.sequences.group_tokens().min())
    assert [int(one.sequences.group_tokens().sum()) for one in found] == [smallest, smallest]


def test_weightless_is_for_what_is_sampled():
    assert float(minibatches.weightless(rollout().pairs()).drawn.token_weight.sum()) == 0
    with pytest.raises(TypeError, match="ScoredBatch is no batch of sampled sequences"):
        minibatches.weightless(scored(0))


def test_a_group_that_is_too_large_is_refused_with_what_would_help():
    given = rollout()
    with pytest.raises(InputError, match=f"{least(given)} tokens together.*Set data.micro_batch_tokens to {least(given)} or more"):
        minibatches.micro_batches(given, torch.arange(PROMPTS), np.arange(PROMPTS), least(given) - 1)


def test_parts_cover_all_sequences_in_whole_groups():
    given = rollout()
    places, found = zip(*minibatches.in_parts(given, 2 * least(given)), strict=True)
    assert sorted(torch.cat(places).tolist()) == list(range(PROMPTS * EACH)) and len(found) > 1
    for where, part in zip(places, found, strict=True):
        assert torch.equal(part.reward, given.reward[where])
