import math

import pytest
from by_hand import drawn, mean, pairs, posterior, sigmoid, value

from lit_rlhf.algorithms.exo import EXO


def test_it_is_the_kl_from_the_policys_preference_to_the_smoothed_label():
    batch = drawn()

    def kl(h):
        q = sigmoid(h)
        return q * math.log(q / 0.999) + (1 - q) * math.log((1 - q) / 0.001)

    expected = mean(kl(0.1 * (w.ratio - l.ratio)) for w, l in pairs(batch))
    assert value(EXO(**posterior()), batch) == pytest.approx(expected, rel=1e-4)
