import dataclasses
import math

import pytest
import torch
from credit.given import COUNTED, LEFT_OUT, OWNER, REWARD, TOKENS, TRAINED, mates_of, rollout, tokens_of

from lit_rlhf.credit.groups import GroupRelative, LeaveOneOut
from lit_rlhf.errors import InputError

TOKEN_REWARD = torch.linspace(-1.0, 1.0, TOKENS, dtype=torch.float64)
STEPS = [LeaveOneOut(), GroupRelative(), GroupRelative(std=False)]


def total(k, token_reward):
    return REWARD[k] + (0.0 if token_reward is None else sum(token_reward[t].item() for t in tokens_of(k)))


def leave_one_out(own, others, everyone):
    return own - sum(others) / len(others)


def centred(own, others, everyone):
    return own - sum(everyone) / len(everyone)


def standardised(own, others, everyone):
    mean = sum(everyone) / len(everyone)
    return (own - mean) / (math.sqrt(sum((one - mean) ** 2 for one in everyone) / len(everyone)) + 1e-6)


@pytest.mark.parametrize(
    ("step", "formula"), [(STEPS[0], leave_one_out), (STEPS[1], standardised), (STEPS[2], centred)], ids=["loo", "grpo", "dr_grpo"]
)
@pytest.mark.parametrize("token_reward", [None, TOKEN_REWARD])
def test_every_token_has_the_advantage_of_its_completion(step, formula, token_reward):
    found = step(rollout(token_reward=token_reward)).rollout.advantages
    for t in TRAINED:
        if OWNER[t] == LEFT_OUT:
            assert found[t] == 0.0
            continue
        everyone = [total(k, token_reward) for k in mates_of(OWNER[t])]
        others = [total(k, token_reward) for k in mates_of(OWNER[t]) if k != OWNER[t]]
        assert found[t].item() == pytest.approx(formula(total(OWNER[t], token_reward), others, everyone))


@pytest.mark.parametrize("step", STEPS)
def test_samples_of_an_opponent_are_in_no_statistic(step):
    opponent = torch.zeros(8, dtype=torch.bool)
    opponent[[0]] = True
    found = step(rollout(opponent=opponent)).rollout.advantages
    without = rollout().select(torch.tensor([1, 2, 3, 4, 5, 6, 7]))
    assert not found[:3].any()
    assert torch.equal(found[3:], step(without).rollout.advantages)


@pytest.mark.parametrize("step", STEPS)
def test_a_prompt_with_one_sample_is_refused_and_one_whose_others_were_left_out_learns_nothing(step):
    with pytest.raises(InputError, match=f"{type(step).__name__} compares the samples of a prompt.*group_size"):
        step(rollout().select(torch.tensor([0, 1, 2, 4, 5])))
    given = rollout()
    lone = dataclasses.replace(given, weight=given.weight.index_fill(0, torch.tensor([1]), 0.0))
    found = step(lone).rollout.advantages
    assert bool(found.isfinite().all())
    assert not found[[t for t in range(TOKENS) if OWNER[t] in (1, 3)]].any()
    assert found[tokens_of(0)].all()


def test_weights_of_sequences_do_not_enter_the_statistics_of_a_group():
    given = rollout()
    other = dataclasses.replace(given, weight=(given.weight != 0).double())
    for step in STEPS:
        assert torch.equal(step(given).rollout.advantages, step(other).rollout.advantages)


def test_advantages_of_a_group_add_up_to_nothing():
    for step in STEPS:
        found = step(rollout()).rollout.advantages
        for k in COUNTED:
            assert sum(found[tokens_of(mate)[0]].item() for mate in mates_of(k)) == pytest.approx(0.0, abs=1e-12)


def test_epsilon_is_positive():
    with pytest.raises(InputError, match=r"GroupRelative.epsilon is 0"):
        GroupRelative(epsilon=0)
