"""Groups to pair graphs: which ends, which labels, and that a label is a function of its own places alone."""

import dataclasses
import itertools
import math

import pytest
import torch

from lit_rlhf.algorithms.pairing import Collected, JudgePairs, RewardPairs
from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Judge, Response
from lit_rlhf.types import PromptRecord, Rollout, Sequences

REWARD = (0.5, -1.0, 1.5, 0.2, 0.2, 0.9)
GROUPS = ((0, 1, 2), (3, 4, 5))


def collected(draw=0, index=(4, 7), weight=(1.0,) * 6, **fields):
    one = torch.ones(2, dtype=torch.long)
    sequences = Sequences(one, one, torch.arange(6), torch.ones(6, dtype=torch.long), torch.tensor([0, 0, 0, 1, 1, 1]))
    rollout = Rollout(sequences, -torch.arange(6) / 6, torch.tensor(REWARD), weight=torch.tensor(weight), **fields)
    record = PromptRecord("")
    responses = tuple(Response(record, str(row), (row,), True, row // 3) for row in range(6))
    return Collected(rollout, responses, torch.tensor(index), draw)


def ends(batch):
    return {frozenset(pair) for pair in zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)}


def within_groups():
    return {frozenset(pair) for group in GROUPS for pair in itertools.combinations(group, 2)}


def test_soft_labels_are_those_of_bradley_and_terry():
    batch = RewardPairs(scale=2.0)(collected())
    assert ends(batch) == within_groups() and len(batch.chosen) == 6
    for w, l, p, gap in zip(*(t.tolist() for t in (batch.chosen, batch.rejected, batch.probability, batch.reward_gap)), strict=True):
        assert gap == pytest.approx(REWARD[w] - REWARD[l]) and gap >= 0
        assert p == pytest.approx(1 / (1 + math.exp(-(REWARD[w] - REWARD[l]) / 2)))
    assert torch.equal(batch.drawn.reward, torch.tensor(REWARD))


def test_hard_labels_name_the_better_end_and_no_winner_of_a_tie():
    batch = RewardPairs("hard")(collected())
    ties = [p for w, l, p in zip(batch.chosen.tolist(), batch.rejected.tolist(), batch.probability.tolist(), strict=True) if {w, l} == {3, 4}]
    assert ties == [0.5] and batch.probability.tolist().count(1.0) == 5
    assert bool((batch.reward_gap >= 0).all())


def test_sampled_labels_are_right_as_often_as_they_should_be():
    draws = 400
    wins = dict.fromkeys(itertools.permutations(range(6), 2), 0)
    for draw in range(draws):
        batch = RewardPairs("sampled")(collected(draw))
        assert set(batch.probability.tolist()) == {1.0}
        for pair, gap in zip(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True), batch.reward_gap.tolist(), strict=True):
            wins[pair] += 1
            assert gap == pytest.approx(REWARD[pair[0]] - REWARD[pair[1]])
    for group in GROUPS:
        for a, b in itertools.combinations(group, 2):
            p = 1 / (1 + math.exp(REWARD[b] - REWARD[a]))
            assert wins[a, b] + wins[b, a] == draws
            assert abs(wins[a, b] / draws - p) < 4 * math.sqrt(p * (1 - p) / draws)


def test_a_drawn_label_belongs_to_seed_iteration_and_places_and_not_to_what_is_beside_it():
    whole = RewardPairs("sampled")(collected(3))
    second = collected(3)
    alone = Collected(second.rollout.select(torch.arange(3, 6)), second.responses[3:], second.index[1:], 3)
    mine = [(w - 3, l - 3) for w, l in zip(whole.chosen.tolist(), whole.rejected.tolist(), strict=True) if w > 2]
    found = RewardPairs("sampled")(alone)
    assert list(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)) == mine
    others = [RewardPairs("sampled", seed=seed)(collected(draw, index)).chosen.tolist() for seed, draw, index in (
        (seed, draw, index) for seed in range(3) for draw in range(3) for index in ((4, 7), (5, 7), (4, 8))
    )]
    assert len(set(map(tuple, others))) > 9


def test_the_best_and_the_worst():
    batch = RewardPairs(between="best_worst")(collected())
    assert list(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)) == [(2, 1), (5, 3)]
    flat = collected()
    flat = dataclasses.replace(flat, rollout=dataclasses.replace(flat.rollout, reward=torch.zeros(6)))
    batch = RewardPairs(between="best_worst")(flat)
    assert ends(batch) == {frozenset({0, 1}), frozenset({3, 4})} and batch.probability.tolist() == [0.5, 0.5]


def test_what_weighs_nothing_is_in_no_pair_and_a_pair_weighs_what_its_lighter_end_does():
    given = collected(weight=(1.0, 0.0, 2.0, 0.0, 0.0, 1.0))
    batch = RewardPairs()(given)
    assert ends(batch) == {frozenset({0, 2})} and batch.pair_weight.tolist() == [1.0]
    assert ends(RewardPairs(between="best_worst")(given)) == {frozenset({0, 2})}
    none = RewardPairs("sampled", "best_worst")(collected(weight=(0.0,) * 6))
    assert len(none.chosen) == 0 and float(none.count("pair")) == 0


def test_the_policys_own_against_the_opponents():
    opponent = torch.tensor([False, True, False, False, True, True])
    batch = RewardPairs(between="opponents")(collected(opponent=opponent))
    assert ends(batch) == {pair for pair in within_groups() if len({bool(opponent[end]) for end in pair}) == 2}
    with pytest.raises(InputError, match="between=opponents, and the algorithm has no opponent; set model.opponent"):
        RewardPairs(between="opponents")(collected())


class ByLength(Judge):
    """Prefers the later response, more so the further apart; knows nothing of the first one."""

    def __call__(self, first, second):
        self.asked = [(int(a.text), int(b.text)) for a, b in zip(first, second, strict=True)]
        return torch.tensor([math.nan if a == 0 else 0.4 - 0.1 * (b - a) for a, b in self.asked])


def test_a_judge_is_asked_once_a_pair_and_has_a_say_where_it_has_an_opinion():
    judge = ByLength()
    batch = JudgePairs(judge)(collected())
    assert judge.asked == [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
    assert batch.pair_weight.tolist() == [0, 0, 1, 1, 1, 1]
    known = list(zip(batch.chosen.tolist(), batch.rejected.tolist(), batch.probability.tolist(), strict=True))[2:]
    assert [(w, l) for w, l, _ in known] == [(2, 1), (4, 3), (5, 3), (5, 4)]
    assert [p for *_, p in known] == pytest.approx([0.7, 0.7, 0.8, 0.7])
    assert batch.reward_gap[2:].tolist() == pytest.approx([math.log(p / (1 - p)) for *_, p in known], rel=1e-5)
    assert set(JudgePairs(judge, "hard")(collected()).probability[2:].tolist()) == {1.0}


def test_arguments_out_of_range():
    with pytest.raises(InputError, match="model.pairs.labels: 'soft!', expected soft, sampled, hard"):
        RewardPairs("soft!")
    with pytest.raises(InputError, match="model.pairs.between: 'some', expected all, best_worst, opponents"):
        JudgePairs(ByLength(), between="some")
    with pytest.raises(InputError, match="model.pairs.scale: 0.0, expected a positive number"):
        RewardPairs(scale=0.0)
