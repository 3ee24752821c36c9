import dataclasses

import pytest
import torch
from credit.given import FINISHED, LEFT_OUT, REWARD, WEIGHT, double, metric, rollout

from lit_rlhf.credit.truncation import DropConstantGroups, MaskTruncated, PenaliseTruncated, constant_groups
from lit_rlhf.errors import InputError

CUT = [k for k, ended in enumerate(FINISHED) if not ended]
SHARE = sum(WEIGHT[k] for k in CUT) / sum(WEIGHT)


def test_masked_completions_weigh_nothing():
    done = MaskTruncated()(rollout())
    assert done.rollout.weight.tolist() == [weight if ended else 0.0 for weight, ended in zip(WEIGHT, FINISHED, strict=True)]
    assert metric(done, "masked_truncated") == pytest.approx(SHARE)
    assert MaskTruncated()(rollout(weight=None)).rollout.weight.tolist() == [float(ended) for ended in FINISHED]


def test_penalised_completions_lose_the_penalty():
    done = PenaliseTruncated(0.75)(rollout(reward=double([1.0] * 8)))
    assert done.rollout.reward.tolist() == [1.0 if ended else 0.25 for ended in FINISHED]
    assert metric(done, "penalised_truncated") == pytest.approx(SHARE)
    assert PenaliseTruncated()(rollout()).rollout.reward[LEFT_OUT].isnan()
    with pytest.raises(InputError, match=r"PenaliseTruncated.penalty is -1.*subtracted"):
        PenaliseTruncated(-1)


@pytest.mark.parametrize("step", [MaskTruncated(), PenaliseTruncated()])
def test_a_rollout_that_does_not_say_what_was_cut_is_refused(step):
    with pytest.raises(InputError, match=f"{type(step).__name__} asks what was cut"):
        step(rollout(finished=None))


def with_constant(prompt):
    """Prompt 1's third sample, of another reward, has weight 0."""
    value = {0: (1, 3), 1: (2, 5), 2: (0, 4, 7)}[prompt]
    return rollout(reward=double(REWARD).index_fill(0, torch.tensor(value), 0.1))


@pytest.mark.parametrize("prompt", [0, 1, 2])
def test_groups_of_one_reward_weigh_nothing_and_are_counted(prompt):
    given = with_constant(prompt)
    assert constant_groups(given).tolist() == [index == prompt for index in range(3)]
    done = DropConstantGroups()(given)
    inside = given.sequences.prompt_of == prompt
    assert torch.equal(done.rollout.weight, torch.where(inside, 0.0, given.weight))
    assert metric(done, "dropped_groups") == pytest.approx(1 / 3)


def test_a_group_with_nothing_or_one_left_says_nothing():
    given = rollout()
    for left_out in ([1], [1, 3]):
        weight = given.weight.index_fill(0, torch.tensor(left_out), 0.0)
        assert constant_groups(dataclasses.replace(given, weight=weight)).tolist() == [True, False, False]


def test_an_opponents_reward_makes_no_group_vary():
    reward = double(REWARD).index_fill(0, torch.tensor([0, 4]), 0.1)
    opponent = torch.zeros(8, dtype=torch.bool).index_fill(0, torch.tensor([7]), True)
    assert constant_groups(rollout(reward=reward)).tolist() == [False, False, False]
    assert constant_groups(rollout(reward=reward, opponent=opponent)).tolist() == [False, False, True]


def test_dropping_groups_of_one_sample_is_refused():
    with pytest.raises(InputError, match="DropConstantGroups compares the samples of a prompt"):
        DropConstantGroups()(rollout().select(torch.tensor([0, 1, 2])))
