import math

import pytest
import torch

from lit_rlhf.theory.closed_forms import margins


@pytest.mark.parametrize("margin", [-2.0, 0.0, 0.7])
def test_the_law_of_a_pair_has_its_margin(margin):
    base, lengths = torch.tensor([0.2, 0.8], dtype=torch.float64).log(), torch.tensor([4, 1])
    for law, scale, origin in (
        (margins.pair_law(margin, 0.5, base), torch.ones(2), base),
        (margins.pair_law(margin, 0.5, base, lengths), lengths, base),
        (margins.pair_law(margin, 0.5, None, lengths), lengths, torch.zeros(2)),
    ):
        first, second = (law.log() - origin) / scale
        assert 0.5 * float(first - second) == pytest.approx(margin, abs=1e-10)
        assert float(law.sum()) == pytest.approx(1)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_margins_minimise_their_losses(p):
    h = torch.linspace(-6, 6, 120_001, dtype=torch.float64)
    up, down = torch.nn.functional.logsigmoid(h), torch.nn.functional.logsigmoid(-h)

    def least(loss: torch.Tensor) -> float:
        return float(h[loss.argmin()])

    def kl(label: float) -> torch.Tensor:
        return up.exp() * (up - math.log(label)) + down.exp() * (down - math.log(1 - label))

    q = 0.8 * p + 0.1
    shifted = [torch.nn.functional.logsigmoid(sign * h - 0.6) for sign in (1, -1)]
    for expected, loss in (
        (margins.smoothed(p, 0.1), -q * up - (1 - q) * down),
        (margins.exo_hard(p, 0.1), p * kl(0.9) + (1 - p) * kl(0.1)),
        (margins.ipo(p), p * (h - 0.5) ** 2 + (1 - p) * (h + 0.5) ** 2),
        (margins.simpo(p, 0.6), -p * shifted[0] - (1 - p) * shifted[1]),
    ):
        assert least(loss) == pytest.approx(expected, abs=1.01e-4)
    if p != 0.5:
        assert least(p * (1 - h).relu() + (1 - p) * (1 + h).relu()) == pytest.approx(margins.hinge(p), abs=1e-4)


def test_without_a_margin_simpo_is_the_logit_and_offsets_add_gaps():
    assert margins.simpo(0.7, 0.0) == pytest.approx(math.log(0.7 / 0.3))
    assert margins.offset(0.7, math.log(0.7 / 0.3), 0.5) == pytest.approx(1.5 * math.log(0.7 / 0.3))
    assert margins.smoothed(1.0, 0.1) == pytest.approx(math.log(9))
