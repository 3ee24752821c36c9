import pytest
from by_hand import drawn, mean, pairs, posterior, value

from lit_rlhf.algorithms.ipo import IPO


def test_the_log_ratios_differ_by_half_the_inverse_of_tau():
    batch = drawn()
    expected = mean((w.ratio - l.ratio - 1 / (2 * 0.1)) ** 2 for w, l in pairs(batch))
    assert value(IPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
