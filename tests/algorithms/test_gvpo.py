import statistics

import pytest
from by_hand import groups, mean, posterior, value
from support import scored

from lit_rlhf.algorithms.gvpo import GVPO


def test_it_is_half_the_sample_variance_of_a_groups_residual():
    batch = scored(0)
    expected = mean(statistics.variance([0.1 * y.ratio - r for y, r in group]) / 2 for group in groups(batch))
    assert value(GVPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
