import pytest
from by_hand import drawn, mean, pairs, posterior, value

from lit_rlhf.algorithms.sppo import SPPO


def test_log_ratios_are_fitted_to_win_rates_of_one_and_zero():
    batch = drawn()
    expected = mean((w.ratio - 5.0) ** 2 + (l.ratio + 5.0) ** 2 for w, l in pairs(batch))
    assert value(SPPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
