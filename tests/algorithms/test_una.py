import pytest
from by_hand import mean, posterior, rewarded, value
from support import scored

from lit_rlhf.algorithms.una import UNA


def test_the_implicit_reward_is_fitted_to_the_reward_itself():
    batch = scored(0)
    expected = mean((0.1 * y.ratio - r) ** 2 / 2 for y, r in rewarded(batch))
    assert value(UNA(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
