import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, value
from support import Bigram

from lit_rlhf.algorithms.simpo import SimPO


def test_log_probs_are_averaged_and_the_margin_is_one():
    batch = drawn()
    expected = mean(-log_sigmoid(2.0 * (w.mean_logp - l.mean_logp) - 1.0) for w, l in pairs(batch))
    assert value(SimPO(Bigram()), batch) == pytest.approx(expected, rel=1e-5)
