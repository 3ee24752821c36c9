import pytest
import torch
from credit.given import COUNTED, REWARD, WEIGHT, double, mates_of, metric, rollout

from lit_rlhf.credit.selection import KeepBest
from lit_rlhf.errors import InputError


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_best_of_every_prompt_keep_their_weight(n):
    done = KeepBest(n)(rollout())
    kept = [k for k in COUNTED if sum(REWARD[j] > REWARD[k] for j in mates_of(k)) < n]
    assert done.rollout.weight.tolist() == [weight if k in kept else 0.0 for k, weight in enumerate(WEIGHT)]
    expected = sum(WEIGHT[k] * REWARD[k] for k in kept) / sum(WEIGHT[k] for k in kept)
    assert metric(done, "kept_reward") == pytest.approx(expected)


def test_of_equal_rewards_the_first_is_kept():
    done = KeepBest()(rollout(reward=double([1.0] * 8)))
    assert done.rollout.weight.nonzero()[:, 0].tolist() == [0, 1, 2]


def test_opponents_are_ranked_alone():
    theirs = torch.tensor([True, False, True, False, True, True, False, False])
    done = KeepBest(of="opponents")(rollout(opponent=theirs))
    assert done.rollout.weight.nonzero()[:, 0].tolist() == [0, 5]
    own = KeepBest()(rollout(opponent=theirs))
    assert own.rollout.weight.nonzero()[:, 0].tolist() == [3, 7]


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="KeepBest.n is 0"):
        KeepBest(0)
    with pytest.raises(InputError, match="set model.opponent"):
        KeepBest(of="opponents")(rollout())
