import math
import statistics

import pytest
from algorithms.sampled import OWNER, REWARD, TOKENS, clipped, credit, logps, loss, made, mean, rollout, tokens

from lit_rlhf.algorithms.reinforce_plus_plus import ReinforcePlusPlus


def test_a_tokens_advantage_is_the_reward_less_the_kl_to_come_whitened_over_all_tokens():
    algorithm, before = made(ReinforcePlusPlus), rollout()
    given, policy = credit(algorithm, before), logps(3)
    apart = before.behaviour - before.reference
    raw = [REWARD[OWNER[t]] - 0.1 * sum(apart[l].item() for l in tokens(OWNER[t]) if l >= t) for t in range(TOKENS)]
    white = [(a - mean(raw)) / statistics.pstdev(raw) for a in raw]
    assert given.advantages.tolist() == pytest.approx(white)
    ratio = [math.exp(x) for x in (policy - before.behaviour).tolist()]
    assert loss(algorithm, given, policy) == pytest.approx(-mean(map(clipped, ratio, white)))
