import pytest
from algorithms.sampled import GROUPS, REWARD, credit, logps, loss, made, mean, rollout, tokens

from lit_rlhf.algorithms.raft import RAFT


def test_it_is_the_likelihood_of_the_best_of_each_group():
    algorithm, policy = made(RAFT), logps(3)
    best = [max(group, key=lambda k: REWARD[k]) for group in GROUPS]
    expected = -mean(policy[t].item() for k in best for t in tokens(k))
    assert loss(algorithm, credit(algorithm, rollout()), policy) == pytest.approx(expected)
