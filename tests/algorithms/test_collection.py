"""From prompts to scored groups: replaced groups, unknown rewards, opponents, and the same on one rank and on two."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_rlhf.algorithms.collection import ATTEMPTS, collect, scatter_tokens
from lit_rlhf.algorithms.recording import Recorder
from lit_rlhf.rewards.base import Part, Reward, Scores
from lit_rlhf.types import PromptRecord, Prompts, Samples, Sequences

K = 3


def prompts(ids, index, weight=None):
    """One-token prompts."""
    ones = torch.ones(len(ids), dtype=torch.long)
    records = tuple(PromptRecord(str(one)) for one in ids)
    return Prompts(torch.tensor(ids), ones, records, torch.tensor(index), torch.ones(len(ids)) if weight is None else torch.tensor(weight))


class Drawing:
    """Completions of one to three tokens, a function of prompt, draw, place and number."""

    def __init__(self):
        self.draws = []

    def sample(self, policy, given, group_size, draw):
        self.draws.append(draw)
        rows = [
            np.random.default_rng([prompt, draw, index, place]).integers(0, 9, 1 + (index + place) % 3)
            for prompt, index in zip(given.prompt_ids.tolist(), given.index.tolist(), strict=True) for place in range(group_size)
        ]
        ids = torch.from_numpy(np.concatenate(rows))
        lengths = torch.tensor([len(row) for row in rows])
        owner = torch.arange(len(given.index)).repeat_interleave(group_size)
        sequences = Sequences(given.prompt_ids, given.prompt_lengths, ids, lengths, owner)
        behaviour = -(ids + 1.0) - policy
        return Samples(sequences, behaviour, behaviour, lengths < 3)


class ByPrompt(Reward):
    """The first token; 1 for every response to a prompt below 10, and nothing known of the prompt 20."""

    def __call__(self, responses):
        total = torch.tensor([self.one(response) for response in responses])
        return Scores(total, (Part("digit", total),))

    def one(self, response):
        prompt = int(response.record.prompt)
        return math.nan if prompt == 20 else 1.0 if prompt < 10 else float(response.ids[0])


class Fresh:
    """Prompts of a number that grows with the attempt: the first replacement at place 0 has a constant reward too."""

    def fresh_prompts(self, index, position, attempt):
        places = index.tolist()
        return prompts([5 if (attempt, place) == (1, 0) else 100 * attempt + place for place in places], places)


class Reference:
    """Sampled from as the opponent."""


class Opponent:
    completions = 2

    def sample(self, sampler, actor, reference, given, draw):
        return sampler.sample(2, given, self.completions, draw)


def made(resample=0, opponent=None):
    """What `collect` asks of an algorithm."""
    stops = SimpleNamespace(text=str)
    data = SimpleNamespace(datamodule=Fresh())
    return SimpleNamespace(
        sampler=Drawing(), actor=SimpleNamespace(model=1), reference=Reference(), reward=ByPrompt(), group_size=K,
        resample=resample, opponent=opponent, stop_set=stops, recorder=Recorder(), enter=lambda phase: None, trainer=data,
        device=torch.device("cpu"),
    )


GIVEN = ([3, 30, 8, 31, 20], [0, 1, 2, 3, 4])


def groups(found):
    """Place -> (prompt, its completions, rewards, weights)."""
    rollout, result = found.rollout, {}
    for prompt, place in enumerate(found.index.tolist()):
        own = rollout.select((rollout.sequences.prompt_of == prompt).nonzero()[:, 0])
        ids = own.sequences.completion_ids.split(own.sequences.completion_lengths.tolist())
        result[place] = (
            int(own.sequences.prompt_ids), tuple(tuple(one.tolist()) for one in ids), tuple(own.reward.tolist()),
            tuple(own.sequence_weight.tolist()),
        )
    return result


def test_without_resampling_every_group_is_there_once():
    algorithm = made()
    found = collect(algorithm, prompts(*GIVEN), 3)
    assert algorithm.sampler.draws == [2 * 3 * ATTEMPTS]
    assert [group[0] for group in groups(found).values()] == GIVEN[0]
    assert [response.record.prompt for response in found.responses] == [str(one) for one in GIVEN[0] for _ in range(K)]
    assert all(response.ids == ids for response, ids in zip(
        found.responses, (ids for group in groups(found).values() for ids in group[1]), strict=True
    ))


def test_a_response_without_a_reward_weighs_nothing_and_is_counted():
    algorithm = made()
    found = groups(collect(algorithm, prompts(*GIVEN), 0))
    assert found[4][2:] == ((0.0,) * K, (0.0,) * K) and found[1][3] == (1.0,) * K
    recorded = algorithm.recorder.flush(torch.device("cpu"))
    assert recorded["reward/skipped"] == pytest.approx(1 / 5)
    known = [value for place in range(4) for value in found[place][2]]
    assert recorded["reward/digit"] == recorded["reward/total"] == pytest.approx(sum(known) / len(known))


def test_groups_of_one_reward_are_replaced_and_only_those():
    before, after = (groups(collect(made(resample), prompts(*GIVEN), 3)) for resample in (0, 1))
    assert list(after) == [0, 1, 2, 3, 4]
    assert [after[place] for place in (1, 3)] == [before[place] for place in (1, 3)]
    assert [after[place][0] for place in (0, 2, 4)] == [5, 102, 104]
    twice = groups(collect(made(2), prompts(*GIVEN), 3))
    assert twice[0][0] == 200 and [twice[place] for place in range(1, 5)] == [after[place] for place in range(1, 5)]


def test_what_is_replaced_is_counted_and_nothing_is_drawn_in_vain():
    algorithm = made(9)
    collect(algorithm, prompts(*GIVEN), 0)
    assert algorithm.sampler.draws == [0, 2, 4]
    shares = algorithm.recorder.flush(torch.device("cpu"))["rollout/resampled_groups"]
    assert shares == pytest.approx((3 + 1 + 0) / 15)


def test_two_ranks_have_together_what_one_has():
    whole = groups(collect(made(2), prompts(*GIVEN), 1))
    ids, index = GIVEN
    ranks = [groups(collect(made(2), prompts([ids[k] for k in own], [index[k] for k in own]), 1)) for own in ((0, 3), (1, 2, 4))]
    assert ranks[0] | ranks[1] == whole


def test_a_repeat_that_keeps_a_rank_in_step_weighs_nothing_after_a_replacement_either():
    found = groups(collect(made(1), prompts([3, 30], [0, 1], [0.0, 1.0]), 0))
    assert found[0][3] == (0.0,) * K and found[1][3] == (1.0,) * K


def test_an_opponents_completions_are_beside_the_policys_own():
    algorithm = made(opponent=Opponent())
    found = collect(algorithm, prompts(*GIVEN), 2)
    rollout = found.rollout
    assert algorithm.sampler.draws == [4 * ATTEMPTS, 4 * ATTEMPTS + 1]
    assert rollout.opponent.tolist() == ([False] * K + [True] * 2) * 5
    assert rollout.sequences.prompt_of.tolist() == [prompt for prompt in range(5) for _ in range(K + 2)]
    alone = collect(made(), prompts(*GIVEN), 2).rollout
    own = rollout.select((~rollout.opponent).nonzero()[:, 0])
    assert torch.equal(own.sequences.completion_ids, alone.sequences.completion_ids) and torch.equal(own.behaviour, alone.behaviour)
    its = rollout.select(rollout.opponent.nonzero()[:, 0])
    assert torch.equal(its.behaviour, -(its.sequences.completion_ids + 3.0))
    lengths = algorithm.recorder.flush(torch.device("cpu"))["rollout/length"]
    assert lengths == pytest.approx(float(alone.sequences.completion_lengths.float().mean()))


def test_values_of_tokens_find_their_places():
    lengths, values = torch.tensor([2, 1, 3]), torch.arange(6.0)
    pieces = [(torch.tensor([2, 0]), torch.tensor([3.0, 4, 5, 0, 1])), (torch.tensor([1]), torch.tensor([2.0]))]
    assert torch.equal(scatter_tokens(pieces, lengths), values)
