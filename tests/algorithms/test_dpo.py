import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, value

from lit_rlhf.algorithms.dpo import DPO


def test_it_is_equation_7_with_beta_a_tenth():
    batch = drawn()
    expected = mean(-log_sigmoid(0.1 * w.ratio - 0.1 * l.ratio) for w, l in pairs(batch))
    assert value(DPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
