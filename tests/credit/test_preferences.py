import math

import pytest
import torch
from credit.given import COUNTED, LEFT_OUT, PROMPT_OF, REWARD, WEIGHT, mates_of, metric, rollout

from lit_rlhf.credit.preferences import AgainstOpponents, WinRate
from lit_rlhf.errors import InputError

OPPONENTS = (0, 3, 6)


def wins(first, second, scale):
    return 1 / (1 + math.exp(-(REWARD[first] - REWARD[second]) / scale))


def opposed(**changes):
    return rollout(opponent=torch.zeros(8, dtype=torch.bool).index_fill(0, torch.tensor(OPPONENTS), True), **changes)


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_win_rate_is_against_the_others_of_the_group(scale):
    found = WinRate(scale)(rollout()).rollout.reward
    for k in COUNTED:
        others = [mate for mate in mates_of(k) if mate != k]
        assert found[k].item() == pytest.approx(sum(wins(k, other, scale) for other in others) / len(others))
    assert found[LEFT_OUT].isnan()


def test_win_rate_without_others_left_is_a_draw_and_without_others_refused():
    given = rollout(weight=rollout().weight.index_fill(0, torch.tensor([1]), 0.0))
    assert WinRate()(given).rollout.reward[3] == 0.5
    with pytest.raises(InputError, match="WinRate compares the samples of a prompt"):
        WinRate()(rollout().select(torch.tensor([0, 1])))


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_own_samples_are_compared_with_the_opponents_which_then_weigh_nothing(scale):
    done = AgainstOpponents(scale)(opposed())
    rivals = {0: [3], 1: [], 2: [0]}
    for k in COUNTED:
        if k in OPPONENTS or not rivals[PROMPT_OF[k]]:
            assert done.rollout.weight[k] == 0.0
            continue
        assert done.rollout.reward[k].item() == pytest.approx(wins(k, rivals[PROMPT_OF[k]][0], scale))
        assert done.rollout.weight[k] == WEIGHT[k]
    mine = [k for k in COUNTED if done.rollout.weight[k] > 0]
    expected = sum(WEIGHT[k] * done.rollout.reward[k].item() for k in mine) / sum(WEIGHT[k] for k in mine)
    assert mine == [1, 4, 7] and metric(done, "win_rate") == pytest.approx(expected)


def test_a_rollout_without_an_opponent_is_refused():
    with pytest.raises(InputError, match=r"AgainstOpponents.*set model.opponent"):
        AgainstOpponents()(rollout())
    with pytest.raises(InputError, match=r"WinRate.scale is 0"):
        WinRate(0)
