import math

import pytest
import torch
from theory.given import MU, N, P, RHO, THETA, WORLD, apart, random_logits

from lit_rlhf.theory import residual as exact
from lit_rlhf.theory.boltzmann import error, log_target


def test_the_residual_is_the_error_up_to_a_constant_and_constant_at_the_target():
    given = (WORLD.reward, 0.7, WORLD.log_base)
    constant = 0.7 * THETA.logsumexp(-1)
    assert apart(exact.residual(THETA, *given), error(THETA.log_softmax(-1), *given) + constant) < 1e-14
    assert float(exact.spread(exact.residual(log_target(*given) + 3.0, *given))) < 1e-14


def test_laplacians_are_symmetric_and_lose_constants():
    weights = exact.edge_weights(RHO)
    for one in (exact.laplacian(weights), exact.fisher(MU)):
        assert apart(one, one.T) < 1e-15 and float(one.sum(1).abs().max()) < 1e-15
        assert float(torch.linalg.eigvalsh(one)[1]) > 0
    assert apart(exact.laplacian(exact.independent(MU)), exact.fisher(MU)) < 1e-15
    d = random_logits(8)
    direct = (weights * (d[:, None] - d[None, :])).sum(1)
    assert apart(exact.laplacian(weights) @ d, direct) < 1e-14


def test_the_secant_slope_is_the_slope_where_both_agree():
    margin = torch.tensor([0.0, 2.0, -1.0, 30.0, -3.0], dtype=torch.float64)
    p = torch.sigmoid(torch.tensor([0.0, 2.0 + 1e-9, 1.5, 1.0, 3.0], dtype=torch.float64))
    found = exact.secant(margin, p)
    assert found[:2].tolist() == pytest.approx([0.25, float(torch.sigmoid(margin[1]) * torch.sigmoid(-margin[1]))])
    assert float(found[2]) == pytest.approx(float((torch.sigmoid(margin[2]) - p[2]) / (-1.0 - 1.5)))
    assert bool((found > 0).all()) and bool((found <= 0.25).all())


def test_with_bradley_terry_labels_the_gradient_of_labels_is_a_laplacian():
    given = (0.7, WORLD.log_base)
    one = exact.label_gradient(THETA, RHO, exact.bradley_terry(WORLD.reward), *given)
    assert apart(one, exact.pra_gradient(THETA, RHO, WORLD.reward, *given)) < 1e-14
    assert apart(one, exact.label_gradient(THETA, RHO, P, *given)) > 1e-2


def test_a_disconnected_graph_keeps_the_sum_of_each_component():
    parts = torch.tensor([0, 1, 0, 1, 2, 0])
    end = exact.disconnected_limit(THETA, parts, WORLD.reward, 0.7, WORLD.log_base)
    d = exact.residual(end, WORLD.reward, 0.7, WORLD.log_base)
    shift = float(end[4] - THETA[4])
    for part in range(3):
        inside = parts == part
        assert float(exact.spread(d[inside])) < 1e-14
        assert float((end - THETA)[inside].mean()) == pytest.approx(shift)
    whole = exact.disconnected_limit(THETA, torch.zeros(N), WORLD.reward, 0.7, WORLD.log_base)
    assert apart(whole, log_target(WORLD.reward, 0.7, WORLD.log_base)) < 1e-14


def test_the_bound_is_infinite_where_a_pair_is_never_seen():
    holed = RHO.clone()
    holed[0, 1] = holed[1, 0] = 0.0
    bounds = [float(exact.kl_bound(THETA, rho, WORLD.reward, 0.7, WORLD.log_base)) for rho in (RHO, holed)]
    assert 0 < bounds[0] < bounds[1] == math.inf


@pytest.mark.parametrize("steps", [0.0, 1.0, 1e3, 1e9])
def test_the_margin_of_a_fixed_label_solves_its_equation(steps):
    h = exact.fixed_label_margin(steps, 0.4, 0.5)
    assert h + math.exp(h) == pytest.approx(2 * 0.4**2 * 0.5 * steps + 1)


def test_more_pairs_estimate_better_in_proportion():
    one, many = (float(exact.expected_kl(RHO, WORLD.reward, 0.7, n, WORLD.log_base)) for n in (100, 1000))
    assert one / many == pytest.approx(10)
    colder = exact.covariance(RHO, WORLD.reward, 0.35, 100)
    assert apart(colder, 4 * exact.covariance(RHO, WORLD.reward, 0.7, 100)) < 1e-10
