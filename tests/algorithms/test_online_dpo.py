import math

import pytest
from algorithms.sampled import REWARD, logps, loss, made, mean, pairs, rollout, total

from lit_rlhf.algorithms.online_dpo import OnlineDPO


def test_it_is_dpo_on_winners_that_are_drawn_anew():
    algorithm, given, policy = made(OnlineDPO), rollout(), logps(3)
    draws = [pairs(algorithm, given, draw) for draw in range(300)]
    ratio = policy - given.reference
    for batch in draws[:3]:
        ends = zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)
        expected = mean(math.log1p(math.exp(-0.1 * (total(ratio, w) - total(ratio, l)))) for w, l in ends)
        assert loss(algorithm, batch, policy) == pytest.approx(expected)
    wins = mean(any((w, l) == (0, 1) for w, l in zip(b.chosen.tolist(), b.rejected.tolist(), strict=True)) for b in draws)
    p = 1 / (1 + math.exp(REWARD[1] - REWARD[0]))
    assert wins == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / len(draws)))
