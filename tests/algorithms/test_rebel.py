import itertools

import pytest
from algorithms.sampled import GROUPS, REWARD, logps, loss, made, mean, pairs, rollout, total

from lit_rlhf.algorithms.rebel import REBEL


def test_differences_of_log_ratios_to_the_behaviour_are_fitted_to_those_of_rewards():
    algorithm, before, policy = made(REBEL), rollout(), logps(3)
    moved = policy - before.behaviour
    errors = [
        total(moved, a) - total(moved, b) - (REWARD[a] - REWARD[b])
        for group in GROUPS for a, b in itertools.combinations(group, 2)
    ]
    expected = mean(error**2 / 2 for error in errors)
    assert loss(algorithm, pairs(algorithm, before), policy) == pytest.approx(expected)
