import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, value

from lit_rlhf.algorithms.wpo import WPO


def test_a_pair_weighs_as_much_as_the_policy_would_write_it_in_proportion_to_its_own_tokens():
    batch = drawn()
    expected = mean(-w.aligned * l.aligned * log_sigmoid(0.1 * (w.ratio - l.ratio)) for w, l in pairs(batch))
    assert value(WPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
