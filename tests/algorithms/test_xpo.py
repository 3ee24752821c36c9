import math

import pytest
import torch
from algorithms.sampled import logps, loss, made, mean, pairs, rollout, total

from lit_rlhf.algorithms.xpo import XPO

THEIRS = (2, 5)


def test_every_pair_has_one_end_of_the_reference_whose_log_prob_is_a_cost():
    algorithm, policy = made(XPO), logps(3)
    given = rollout(opponent=torch.tensor([k in THEIRS for k in range(6)]))
    batch, ratio = pairs(algorithm, given), policy - given.reference
    ends = list(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True))
    assert sorted(map(sorted, ends)) == [[0, 2], [1, 2], [3, 5], [4, 5]]
    dpo = mean(math.log1p(math.exp(-0.1 * (total(ratio, w) - total(ratio, l)))) for w, l in ends)
    bonus = mean(total(policy, k) for k in (2, 2, 5, 5))
    assert loss(algorithm, batch, policy) == pytest.approx(dpo + 1e-5 * bonus, rel=1e-9)
