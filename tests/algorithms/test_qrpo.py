import math

import pytest
from by_hand import groups, mean, posterior, value
from support import scored

from lit_rlhf.algorithms.qrpo import QRPO


def test_rewards_are_quantiles_and_the_partition_is_that_of_a_uniform_reward():
    batch = scored(0)
    log_z = math.log(0.1 * (math.exp(1 / 0.1) - 1))

    def of_group(group):
        rewards = [r for _, r in group]
        for y, r in group:
            quantile = (sum(other < r for other in rewards) + 0.5) / len(rewards)
            yield (0.1 * y.ratio + 0.1 * log_z - quantile) ** 2 / 2

    expected = mean(error for group in groups(batch) for error in of_group(group))
    assert value(QRPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
