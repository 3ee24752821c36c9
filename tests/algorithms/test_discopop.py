import math

import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, sigmoid, value

from lit_rlhf.algorithms.discopop import DiscoPOP


def test_the_margin_turns_from_the_logistic_to_the_exponential_loss():
    batch = drawn()

    def loss(h):
        share = sigmoid(h / 0.05)
        return -(1 - share) * log_sigmoid(h) + share * math.exp(-h)

    expected = mean(loss(0.1 * (w.ratio - l.ratio)) for w, l in pairs(batch))
    assert value(DiscoPOP(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
