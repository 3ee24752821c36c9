import pytest
from algorithms.sampled import GROUPS, REWARD, credit, logps, loss, made, mean, rollout, total

from lit_rlhf.algorithms.rloo import RLOO


def test_a_response_is_one_action_and_the_others_are_its_baseline():
    algorithm, before, policy = made(RLOO), rollout(), logps(3)
    given, apart = credit(algorithm, before), before.behaviour - before.reference
    reward = [r - 0.1 * total(apart, k) for k, r in enumerate(REWARD)]
    own = {k: reward[k] - mean(reward[j] for j in group if j != k) for group in GROUPS for k in group}
    expected = -mean(own[k] * total(policy, k) for k in own)
    assert loss(algorithm, given, policy) == pytest.approx(expected)
