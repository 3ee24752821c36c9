import math

import pytest
import torch
from losses.given import double, evidence, gradient, log_ratios, pairs, softplus, total

from lit_rlhf.errors import InputError
from lit_rlhf.losses.divergences import AlphaDivergence, ForwardKL, JensenShannon, ReverseKL
from lit_rlhf.losses.pra import PRA, LengthDesensitised

SCORES = {
    ReverseKL(): lambda w: math.log(w),
    ForwardKL(): lambda w: -1 / w,
    JensenShannon(): lambda w: math.log(2 * w / (1 + w)),
    AlphaDivergence(0.3): lambda w: (1 - w**-0.3) / 0.3,
}


@pytest.mark.parametrize("divergence", SCORES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("cls", [PRA, LengthDesensitised])
def test_f_dpo_puts_the_score_in_the_place_of_the_log_ratio(divergence, cls):
    seen, batch, tau = evidence(), pairs(), 0.6
    head = cls(tau, divergence=divergence) if cls is PRA else cls(tau, divergence=divergence, alpha=1.0)
    score = [tau * SCORES[divergence](math.exp(ratio)) for ratio in log_ratios(seen)]
    expected = 0.0
    for w, l, p, weight in zip(
        *(x.tolist() for x in (batch.chosen, batch.rejected, batch.probability, batch.weight)), strict=True
    ):
        margin = score[w] - score[l]
        expected += weight * (p * softplus(-margin) + (1 - p) * softplus(margin))
    assert total(head, seen, batch) == pytest.approx(expected)


def test_the_reverse_kl_is_the_default():
    seen, batch = evidence(), pairs()
    assert total(PRA(divergence=ReverseKL()), seen, batch) == total(PRA(), seen, batch)


@pytest.mark.parametrize("divergence", SCORES, ids=lambda one: type(one).__name__)
def test_extreme_ratios_have_finite_gradients(divergence):
    batch, seen = pairs(), evidence()
    with torch.no_grad():
        seen.policy.values[[1, 5]] = double([-1e4, 1e4])
    assert math.isfinite(total(PRA(divergence=divergence), seen, batch))
    assert torch.isfinite(gradient(PRA(divergence=divergence), seen, batch)).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5, 2.0])
def test_alpha_outside_its_interval_is_refused(alpha):
    with pytest.raises(InputError, match=rf"AlphaDivergence.alpha is {alpha}.*ReverseKL and ForwardKL"):
        AlphaDivergence(alpha)
