import math
import statistics

import pytest
from algorithms.sampled import OWNER, clipped, credit, logps, loss, made, mean, rollout, tokens

from lit_rlhf.algorithms.dapo import DAPO

REWARD = (0.0, 1.0, 1.0, 0.5, 0.5, 0.5)


def test_a_mean_over_the_tokens_of_groups_that_vary_with_room_above():
    algorithm, policy = made(DAPO), logps(3)
    before = rollout(reward=logps(0)[:6].new_tensor(REWARD))
    first = REWARD[:3]
    own = [(r - mean(first)) / statistics.pstdev(first) for r in first]
    ratio = [math.exp(x) for x in (policy - before.behaviour).tolist()]
    counted = [t for k in range(3) for t in tokens(k)]
    assert any(1.2 < ratio[t] and own[OWNER[t]] > 0 for t in counted)
    expected = -mean(clipped(ratio[t], own[OWNER[t]], high=0.28) for t in counted)
    assert loss(algorithm, credit(algorithm, before), policy) == pytest.approx(expected, rel=1e-5)
    assert algorithm.resample == 3 and algorithm.reference is None
