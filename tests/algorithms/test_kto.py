import pytest
from by_hand import labelled, mean, posterior, rewarded, sigmoid, value

from lit_rlhf.algorithms.kto import KTO
from lit_rlhf.losses.unpaired import UnpairedPRA


def expected(batch, desirable=1.0):
    found = [(0.1 * y.ratio, good) for y, good in rewarded(batch)]
    z = max(0.0, mean(s for s, _ in found))
    return mean(desirable * (1 - sigmoid(s - z)) if good else 1 - sigmoid(z - s) for s, good in found)


def test_it_is_equation_8():
    batch = labelled()
    assert value(KTO(**posterior()), batch) == pytest.approx(expected(batch), rel=1e-5)


def test_classes_of_unequal_size_are_balanced_by_weights():
    batch = labelled()
    algorithm = KTO(loss=UnpairedPRA(desirable=1.5), **posterior())
    assert value(algorithm, batch) == pytest.approx(expected(batch, 1.5), rel=1e-5)
