import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, value

from lit_rlhf.algorithms.dpop import DPOP


def test_a_chosen_end_below_the_reference_is_penalised():
    batch = drawn()
    assert any(w.ratio < 0 for w, _ in pairs(batch))
    expected = mean(
        -log_sigmoid(0.1 * (w.ratio - l.ratio - 50 * max(0.0, -w.ratio))) for w, l in pairs(batch)
    )
    assert value(DPOP(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
