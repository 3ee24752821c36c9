"""How fast: Hessians by theta at the target, what gradient descent makes of them, and designs of pairs.

Gradient descent with a step eta contracts by 1 - eta lambda_2 per step near the target, lambda_2 the least eigenvalue
beside the direction that changes no policy. Hessians are of `expected_loss` with laws that sum to 1; a regime that
divides otherwise scales eta.
"""

from __future__ import annotations


import torch
from torch import Tensor

from lit_rlhf.theory.residual import bradley_terry, differences, edge_weights, fisher, independent, laplacian

# ---- Hessians at pi^tau


def bda_hessian(target: Tensor, tau: float) -> Tensor:
    """[n, n] tau F(pi^tau): its eigenvalues interlace the sorted probabilities, so the smallest of them set the pace.
    """
    return tau * fisher(target)


def ra_hessian(target: Tensor, law: Tensor, tau: float) -> Tensor:
    """[n, n] tau^2 sum_j mu_j a_j a_j^T, a_j = e_j - pi^tau; tau^2 F(pi^tau) where mu = pi^tau."""
    a = torch.eye(len(law), dtype=law.dtype) - target
    return tau**2 * a.T @ law.diag() @ a


def rda_hessian(rho: Tensor, tau: float) -> Tensor:
    """[n, n] tau^2 L_w, the same at every theta."""
    return tau**2 * laplacian(edge_weights(rho))


def pra_hessian(rho: Tensor, p: Tensor, tau: float) -> Tensor:
    """[n, n] tau^2 L_{w p (1-p)} at the target; with sigma(h) in the place of p, that at any theta."""
    return tau**2 * laplacian(edge_weights(rho) * p * (1 - p))


def tree_hessian(jacobian: Tensor, hessian: Tensor) -> Tensor:
    """[m, m] J^T H J of parameters by which log pi of responses has the Jacobian J [n, m], H by logits of responses at
    the target.
    """
    return jacobian.T @ hessian @ jacobian


def on_policy(target: Tensor) -> Tensor:
    """[n, n] the pair law pi^tau x pi^tau of on-policy pairs at the target, where RDA is 2 tau and PRA about tau/2
    times BDA.
    """
    return independent(target)


# ---- what they say


def spectrum(hessian: Tensor) -> Tensor:
    """[n - 1] eigenvalues in ascending order, without that of the constant direction."""
    n = len(hessian)
    columns = torch.eye(n, dtype=hessian.dtype)
    columns[:, 0] = 1.0
    basis = torch.linalg.qr(columns)[0][:, 1:]
    return torch.linalg.eigvalsh(basis.T @ hessian @ basis)


def contraction(hessian: Tensor, eta: float) -> float:
    """1 - eta lambda_2, for eta up to 2/(lambda_2 + lambda_max)."""
    return 1 - eta * float(spectrum(hessian)[0])


def largest_step(hessian: Tensor) -> float:
    """1/lambda_max."""
    return 1 / float(spectrum(hessian)[-1])


def condition(hessian: Tensor) -> float:
    """kappa = lambda_max/lambda_2."""
    values = spectrum(hessian)
    return float(values[-1] / values[0])


def global_contraction(rho: Tensor, reward: Tensor, tau: float, eta: float) -> float:
    """1 - eta tau^2 sigma'(2R) lambda_2(L_w), R = range r: PRA from theta_0 = log u shrinks ||d|| at least by this,
    every step.
    """
    reach = torch.sigmoid(2 * (reward.max() - reward.min()))
    return 1 - eta * tau**2 * float(reach * (1 - reach)) * float(spectrum(laplacian(edge_weights(rho)))[0])


def bandit_time(gap: float, eta: float, steps: int) -> float:
    """1 - pi(best) ~ 1/(2 Delta eta t): the policy gradient without a regulariser on two responses from pi = 1/2, t
    large.
    """
    return 1 / (2 * gap * eta * steps)


# ---- designs of pairs


def uniform_pairs(n: int) -> Tensor:
    """[n, n] every ordered pair alike: the best for RDA, lambda_2(L_w) = 2/(n - 1)."""
    return _normalised(torch.ones(n, n, dtype=torch.float64))


def inverse_variance(reward: Tensor) -> Tensor:
    """[n, n] ~ 1/(p (1 - p)): PRA's curvature is the same on every pair, lambda_2 = n / sum_{j<k} 1/(p (1 - p)) at tau
    = 1.
    """
    p = bradley_terry(reward)
    return _normalised(1 / (p * (1 - p)))


def inverse_slope(margin: Tensor) -> Tensor:
    """[n, n] ~ 1/sigma'(h) of the margins h [n, n] of the policy as it is.

    With the step (sum_{j<k} 1/sigma'(h_jk)) / (tau^2 n) gradient descent on PRA converges quadratically (the mechanism
    of https://arxiv.org/abs/2409.19605).
    """
    q = torch.sigmoid(margin)
    return _normalised(1 / (q * (1 - q)))


def inverse_variance_is_best(reward: Tensor) -> bool:
    """Whether no pair law has a larger lambda_2 under PRA: lambda_max(P [cosh(r_j - r_k)] P) <= 2, P the projector off
    1.
    """
    return float(spectrum(torch.cosh(differences(reward)))[-1]) <= 2


def _normalised(weights: Tensor) -> Tensor:
    off = weights.clone().fill_diagonal_(0.0)
    return off / off.sum()
