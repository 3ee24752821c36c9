import pytest
from by_hand import labelled, log_sigmoid, mean, posterior, rewarded, value

from lit_rlhf.algorithms.bco import BCO


def test_it_classifies_by_the_middle_between_the_class_means():
    batch = labelled()
    found = [(0.1 * y.ratio, good) for y, good in rewarded(batch)]
    middle = (mean(s for s, good in found if good) + mean(s for s, good in found if not good)) / 2
    expected = mean(-log_sigmoid(s - middle) if good else -log_sigmoid(middle - s) for s, good in found)
    assert value(BCO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
