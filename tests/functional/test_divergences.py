import pytest
import torch

from lit_rlhf.functional import divergences

# f of the paper's table, whose derivative at w is the score up to a constant.
GENERATORS = {
    "reverse_kl": (lambda w: w * w.log(), divergences.reverse_kl),
    "forward_kl": (lambda w: -w.log(), divergences.forward_kl),
    "jensen_shannon": (lambda w: w * w.log() - (w + 1) * ((w + 1) / 2).log(), divergences.jensen_shannon),
    "alpha": (
        lambda w: (w ** (1 - 0.3) - (1 - 0.3) * w - 0.3) / (0.3 * (0.3 - 1)),
        lambda x: divergences.alpha_divergence(x, 0.3),
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_differences_of_scores_are_those_of_the_generator_s_derivative(name):
    generator, score = GENERATORS[name]
    log_ratio = torch.linspace(-3, 3, 13, dtype=torch.float64)
    w = log_ratio.exp().requires_grad_()
    (derivative,) = torch.autograd.grad(generator(w).sum(), w)
    found = score(log_ratio)
    assert torch.allclose(found - found[0], derivative - derivative[0])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_score_at_w_1_is_that_of_the_constants_left_out(name):
    at_one = {"reverse_kl": 0, "forward_kl": -1, "jensen_shannon": 0, "alpha": 0}
    assert GENERATORS[name][1](torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(at_one[name])


def test_alpha_towards_0_is_the_reverse_and_at_1_the_forward_kl():
    log_ratio = torch.linspace(-2, 2, 9, dtype=torch.float64)
    assert torch.allclose(divergences.alpha_divergence(log_ratio, 1e-9), log_ratio)
    assert torch.allclose(divergences.alpha_divergence(log_ratio, 1.0), divergences.forward_kl(log_ratio) + 1)


@pytest.mark.parametrize("name", GENERATORS)
def test_scores_rise_with_w_and_stay_finite(name):
    log_ratio = torch.tensor([-1e4, -200.0, -5.0, 0.0, 5.0, 1e4], requires_grad=True)
    found = GENERATORS[name][1](log_ratio)
    (slope,) = torch.autograd.grad(found.sum(), log_ratio)
    assert torch.isfinite(found).all() and torch.isfinite(slope).all()
    assert (found.diff() >= 0).all() and (slope[:4] > 0).all()
