import math

import pytest
from by_hand import groups, mean, posterior, softmax, value
from support import scored

from lit_rlhf.algorithms.info_nca import InfoNCA


def test_it_is_the_cross_entropy_of_the_rewards_and_the_implicit_ones():
    batch = scored(0)

    def cross_entropy(group):
        label, implicit = softmax([r for _, r in group]), softmax([0.1 * y.ratio for y, _ in group])
        return -sum(p * math.log(q) for p, q in zip(label, implicit, strict=True))

    expected = mean(cross_entropy(group) for group in groups(batch))
    assert value(InfoNCA(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
