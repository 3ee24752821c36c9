import pytest
from algorithms.sampled import OWNER, REWARD, TOKENS, credit, logps, loss, made, mean, rollout

from lit_rlhf.algorithms.a2c import A2C


def test_what_followed_less_the_critic_and_its_error_and_the_entropy():
    algorithm, before = made(A2C), rollout()
    given, policy, values, entropy = credit(algorithm, before), logps(3), -logps(4), -logps(5)
    reward = [REWARD[OWNER[t]] for t in range(TOKENS)]
    actor = mean((r - v) * p for r, v, p in zip(reward, before.values.tolist(), policy.tolist(), strict=True))
    critic = mean((r - v) ** 2 for r, v in zip(reward, values.tolist(), strict=True))
    expected = -actor + critic / 4 - 0.01 * mean(entropy.tolist())
    assert loss(algorithm, given, policy, values=values, entropy=entropy) == pytest.approx(expected)
