import dataclasses
import math

import pytest
from by_hand import groups, mean, value
from support import Bigram, scored

from lit_rlhf.algorithms.awr import AWR


def expected(batch):
    def of_group(group):
        baseline = mean(r for _, r in group)
        return [-min(math.exp(r - baseline), 20.0) * y.logp for y, r in group]

    return mean(loss for group in groups(batch) for loss in of_group(group))


def test_log_probs_are_weighed_by_exponential_advantages():
    batch = scored(0)
    assert value(AWR(Bigram()), batch) == pytest.approx(expected(batch), rel=1e-5)


def test_weights_are_cut_at_twenty():
    batch = scored(0)
    batch = dataclasses.replace(batch, reward=10 * batch.reward)
    assert value(AWR(Bigram()), batch) == pytest.approx(expected(batch), rel=1e-5)
