import pytest
from by_hand import drawn, mean, pairs, posterior, sigmoid, value

from lit_rlhf.algorithms.apo import APO
from lit_rlhf.losses.links import APODown
from lit_rlhf.losses.pra import PRA


def test_zero_lifts_the_chosen_end_and_lowers_the_other():
    batch = drawn()
    expected = mean(1 - sigmoid(0.1 * w.ratio) + sigmoid(0.1 * l.ratio) for w, l in pairs(batch))
    assert value(APO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)


def test_down_lowers_both_the_chosen_end_less():
    batch = drawn()
    expected = mean(sigmoid(0.1 * w.ratio) + 1 - sigmoid(0.1 * (w.ratio - l.ratio)) for w, l in pairs(batch))
    assert value(APO(loss=PRA(link=APODown()), **posterior()), batch) == pytest.approx(expected, rel=1e-5)
