import math

import pytest
import torch
from algorithms.sampled import OWNER, REWARD, credit, logps, loss, made, mean, rollout, tokens, total

from lit_rlhf.algorithms.nash_md import NashMD

MINE = {0: 2, 1: 2, 3: 5, 4: 5}
"""The policy's samples, and the opponent's of the same prompt."""


def test_the_policy_gradient_of_winning_less_the_kl_to_come():
    algorithm, policy = made(NashMD), logps(3)
    given = rollout(opponent=torch.tensor([k not in MINE for k in range(6)]))
    apart = given.behaviour - given.reference
    wins = {k: 1 / (1 + math.exp(REWARD[other] - REWARD[k])) for k, other in MINE.items()}
    baseline = mean(wins[k] - 0.1 * total(apart, k) for k in MINE)
    advantage = {
        t: wins[k] - 0.1 * sum(apart[l].item() for l in tokens(k) if l >= t) - baseline for k in MINE for t in tokens(k)
    }
    expected = -sum(a * policy[t].item() for t, a in advantage.items()) / len(MINE)
    assert {OWNER[t] for t in advantage} == set(MINE)
    assert loss(algorithm, credit(algorithm, given), policy) == pytest.approx(expected)
    assert algorithm.opponent.weight == 0.125
