import pytest
from by_hand import drawn, mean, pairs, posterior, value

from lit_rlhf.algorithms.rpo import RPO


def test_margins_are_fitted_to_reward_differences():
    batch = drawn()
    expected = mean(
        (0.1 * (w.ratio - l.ratio) - gap) ** 2 / 2
        for (w, l), gap in zip(pairs(batch), batch.reward_gap.tolist(), strict=True)
    )
    assert value(RPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
