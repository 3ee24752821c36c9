import pytest
from algorithms.sampled import LENGTHS, OWNER, REWARD, TOKENS, credit, logps, loss, made, mean, rollout

from lit_rlhf.algorithms.reinforce import REINFORCE


def test_log_probs_weigh_the_reward_less_its_mean():
    algorithm = made(REINFORCE)
    given, policy = credit(algorithm, rollout()), logps(3)
    expected = -sum((REWARD[OWNER[t]] - mean(REWARD)) * policy[t].item() for t in range(TOKENS)) / len(LENGTHS)
    assert loss(algorithm, given, policy) == pytest.approx(expected)
