import math

import pytest
from algorithms.sampled import GROUPS, OWNER, TOKENS, clipped, credit, logps, loss, made, mean, rollout
from scipy.stats import beta

from lit_rlhf.algorithms.bnpo import BNPO

RIGHT = (1.0, 0.0, 1.0, 0.0, 0.0, 1.0)


def test_advantages_are_divided_by_a_beta_density_of_the_success_rate():
    algorithm, policy = made(BNPO), logps(3)
    before = rollout(reward=logps(0)[:6].new_tensor(RIGHT))
    rates = [mean(RIGHT[k] for k in group) for group in GROUPS]
    spread = sum((p - mean(rates)) ** 2 for p in rates)
    both = mean(rates) * (1 - mean(rates)) / spread - 1
    law = beta(1 + both * mean(rates) / 3, 1 + both * (1 - mean(rates)) / 3)
    own = [(RIGHT[k] - rates[k // 3]) / law.pdf(rates[k // 3]) for k in range(6)]
    ratio = [math.exp(x) for x in (policy - before.behaviour).tolist()]
    expected = -sum(clipped(ratio[t], own[OWNER[t]]) for t in range(TOKENS)) / len(own)
    assert loss(algorithm, credit(algorithm, before), policy) == pytest.approx(expected)
