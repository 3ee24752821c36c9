import math

import pytest
import torch

from lit_rlhf.functional import policy


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def slope(function, x):
    leaf = double([x]).requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0].item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "derivative"),
    [
        (1.0, 2.0, 2.0, 2.0),  # inside
        (1.3, 2.0, 2.0 * 1.25, 0.0),  # risen enough
        (0.7, 2.0, 2.0 * 0.7, 2.0),  # fallen, and to rise again
        (1.3, -2.0, -2.0 * 1.3, -2.0),  # risen, and to fall again
        (0.7, -2.0, -2.0 * 0.8, 0.0),  # fallen enough
        (1.25, 2.0, 2.5, 2.0),  # on the border nothing is cut yet
        (0.8, -2.0, -1.6, -2.0),
        (1.3, 0.0, 0.0, 0.0),
    ],
)
def test_what_the_clip_leaves(ratio, advantage, value, derivative):
    def objective(r):
        return policy.clipped_surrogate(r, double([advantage]), 0.2, 0.25)

    assert objective(double([ratio])).item() == pytest.approx(value)
    assert slope(objective, ratio) == pytest.approx(derivative)


@pytest.mark.parametrize(("advantage", "ratio", "value", "derivative"), [
    (-2.0, 2.9, -5.8, -2.0), (-2.0, 5.0, -6.0, 0.0), (-2.0, 0.1, -1.6, 0.0), (2.0, 5.0, 2.4, 0.0), (2.0, 0.5, 1.0, 2.0),
])
def test_the_dual_clip_bounds_bad_tokens_alone(advantage, ratio, value, derivative):
    def objective(r):
        given = double([advantage])
        return policy.dual_clip(policy.clipped_surrogate(r, given, 0.2, 0.2), given, 3.0)

    assert objective(double([ratio])).item() == pytest.approx(value)
    assert slope(objective, ratio) == pytest.approx(derivative)


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("ratio", [0.0, 0.6, 1.0, 1.9, 40.0])
def test_the_soft_gate_has_slope_one_at_one_and_fades(tau, ratio):
    p = 1 / (1 + math.exp(-tau * (ratio - 1)))
    assert policy.soft_gate(double([ratio]), tau).item() == pytest.approx(4 / tau * p)
    assert slope(lambda r: policy.soft_gate(r, tau), ratio) == pytest.approx(4 * p * (1 - p))
    assert slope(lambda r: policy.soft_gate(r, tau), 1.0) == pytest.approx(1.0)


def test_the_gamma_weight_is_one_at_one_greatest_at_k_over_lambda_and_0_at_both_ends():
    w = double([0.1, 0.5, 1.0, 2.0, 7.0])
    found = policy.gamma_weight(w.log(), 2.0, 3.0)
    assert found.tolist() == pytest.approx([x**2 * math.exp(3 * (1 - x)) for x in w.tolist()])
    grid = torch.linspace(0.01, 4, 4000, dtype=torch.float64)
    assert grid[policy.gamma_weight(grid.log(), 2.0, 3.0).argmax()].item() == pytest.approx(2 / 3, abs=1e-3)
    assert policy.gamma_weight(torch.tensor([-1e4, 1e4]), 2.0, 3.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("per_token", [True, False])
def test_sequence_ratios_by_a_loop(per_token):
    lengths, weight = [2, 1, 3], [1.0, 0.5, 1.0, 0.0, 1.0, 1.0]
    values = [0.3, -0.2, 0.7, 9.0, -0.4, 0.1]
    found = policy.sequence_log_ratio(double(values), torch.tensor(lengths), double(weight), per_token).tolist()
    start = 0
    for length in lengths:
        tokens = range(start, start + length)
        whole, mass = sum(weight[t] * values[t] for t in tokens), sum(weight[t] for t in tokens)
        for t in tokens:
            assert found[t] == pytest.approx(whole / mass if per_token else whole)
        start += length


def test_importance_is_cut_from_above_and_has_no_gradient():
    log_ratio = double([-2.0, 0.0, 0.4, 3.0]).requires_grad_()
    found = policy.truncated_importance(log_ratio, 1.2)
    assert found.tolist() == pytest.approx([math.exp(-2), 1.0, 1.2, 1.2]) and not found.requires_grad
    assert policy.truncated_importance(log_ratio, math.inf).tolist() == pytest.approx(log_ratio.exp().tolist())
