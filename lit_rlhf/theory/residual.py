"""One residual and four Laplacians: what the gradients of the families share, for pi = softmax(theta) over n responses.

d = tau (theta - log u) - r is the residual, constant if and only if pi = pi^tau. Each family's gradient by theta is a
Laplacian times d, and only the weights of its edges differ. A pair law rho [n, n] is of ordered pairs; what counts of
it are w_jk = rho_jk + rho_kj for j != k.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_rlhf.theory.boltzmann import error, log_target, soft_value


def residual(theta: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] d = tau (theta - log u) - r = g + tau logsumexp(theta)."""
    return tau * (theta if log_base is None else theta - log_base) - reward


def spread(values: Tensor) -> Tensor:
    """[] range of `values` [n]."""
    return values.max() - values.min()


def differences(values: Tensor) -> Tensor:
    """[n, n] v_j - v_k."""
    return values[:, None] - values[None, :]


def margins(theta: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n, n] h_jk = tau log[pi_j u_k / (pi_k u_j)]."""
    return tau * differences(theta if log_base is None else theta - log_base)


def bradley_terry(reward: Tensor) -> Tensor:
    """[n, n] p_jk = sigma(r_j - r_k)."""
    return torch.sigmoid(differences(reward))


# ---- Laplacians


def edge_weights(rho: Tensor) -> Tensor:
    """[n, n] w = rho + rho^T without its diagonal."""
    return (rho + rho.T).fill_diagonal_(0.0)


def independent(law: Tensor) -> Tensor:
    """[n, n] rho = mu x mu: both ends drawn from a law [n]."""
    return torch.outer(law, law)


def laplacian(weights: Tensor) -> Tensor:
    """[n, n] (L d)_j = sum_k w_jk (d_j - d_k) of symmetric weights [n, n]."""
    off = weights.clone().fill_diagonal_(0.0)
    return off.sum(1).diag() - off


def fisher(law: Tensor) -> Tensor:
    """[n, n] F = diag(pi) - pi pi^T, the Laplacian of the weights pi_j pi_k."""
    return law.diag() - torch.outer(law, law)


def secant(margin: Tensor, p: Tensor) -> Tensor:
    """[n, n] s = (sigma(h) - p) / (h - logit p) in (0, 1/4], and sigma'(h) where the two agree."""
    apart = margin - p.logit()
    same = apart.abs() < 1e-7
    return torch.where(same, p * (1 - p), (torch.sigmoid(margin) - p) / torch.where(same, 1.0, apart))


# ---- gradients by theta


def bda_gradient(theta: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] F(pi) d, of L = E_{y ~ pi}[tau log(pi/u) - r] (theory: eq. 5)."""
    return fisher(theta.softmax(-1)) @ residual(theta, reward, tau, log_base)


def ra_gradient(theta: Tensor, law: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] tau (diag(mu) - pi mu^T)(g + V*), of L = E_{y ~ mu}[(g + V*)^2] / 2, mu = `law` (theory: eq. 6)."""
    apart = error(theta.log_softmax(-1), reward, tau, log_base) + soft_value(reward, tau, log_base)
    return tau * (law * apart - theta.softmax(-1) * (law @ apart))


def rda_gradient(theta: Tensor, rho: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] tau L_w d, of L = E_rho[(g(y) - g(y'))^2] / 2 (theory: eq. 7)."""
    return tau * laplacian(edge_weights(rho)) @ residual(theta, reward, tau, log_base)


def pra_gradient(theta: Tensor, rho: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] tau L_{w s} d with s the secant slope, of L = -E_rho[p log sigma(h) + (1 - p) log sigma(-h)] (theory: eq. 8).
    """
    slope = secant(margins(theta, tau, log_base), bradley_terry(reward))
    return tau * laplacian(edge_weights(rho) * slope) @ residual(theta, reward, tau, log_base)


def label_gradient(theta: Tensor, rho: Tensor, p: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] tau sum_k w_jk (sigma(h_jk) - p_jk): that of PRA with any preference probabilities p [n, n]."""
    return tau * (edge_weights(rho) * (torch.sigmoid(margins(theta, tau, log_base)) - p)).sum(1)


def own_advantage(theta: Tensor, p: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] A(y) = 2 tau E_{y' ~ pi}[p(y > y') - sigma(h(y, y'))], of mean 0: PRA on pairs of pi x pi is a policy
    gradient.

    Its gradient is -E_{y ~ pi}[A(y) grad log pi(y)] (theory: eq. 13).
    """
    return 2 * tau * (p - torch.sigmoid(margins(theta, tau, log_base))) @ theta.softmax(-1)


# ---- where it ends when something is missing


def disconnected_limit(
    start: Tensor, parts: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None
) -> Tensor:
    """[n] log pi where gradient descent on RDA or PRA ends if pairs join no two components (theory: eq. 12).

    It keeps the sum of each component's logits: pi ~ e^{theta_0} e^{-(d_0 - mean of d_0 over the component)/tau}, which
    from theta_0 = log u is u e^{(r - mean r)/tau}. A response in no pair keeps its logit.

    Args:
        start: [n] theta_0.
        parts: [n] the component of each response.
    """
    d = residual(start, reward, tau, log_base)
    inside = (parts[:, None] == parts).to(d.dtype)
    return (start - (d - inside @ d / inside.sum(1)) / tau).log_softmax(-1)


def displaced(law: Tensor, reward: Tensor, tau: float, delta: float, log_base: Tensor | None = None) -> Tensor:
    """[n] pi of RA with the constant V* + delta on data of `law` mu, to first order in delta (theory: eq. 11).

    pi^tau [1 + (delta/tau)(w / (1 + chi^2(pi^tau || mu)) - 1)], w = pi^tau / mu.
    """
    target = log_target(reward, tau, log_base).exp()
    w = target / law
    return target * (1 + delta / tau * (w / (target @ w) - 1))


def label_shift(rho: Tensor, reward: Tensor, labels: Tensor) -> Tensor:
    """[n] first-order error of the implied reward where labels p^ [n, n] stand for p: L^+_{w p (1-p)} sum_k w_jk (p^_jk
    - p_jk).

    It does not depend on tau; of the policy KL = delta^T F delta / (2 tau^2).
    """
    p, w = bradley_terry(reward), edge_weights(rho)
    return pseudo_inverse(laplacian(w * p * (1 - p))) @ (w * (labels - p)).sum(1)


# ---- bounds and samples


def kl_bound(theta: Tensor, rho: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] a bound of KL(pi || pi^tau) by the excess PRA loss (theory: eq. 16); infinite where a pair is not covered.

    phi(R/tau) C [L(pi) - L(pi^tau)] / (4 tau^2 s^2) with R = range g, s = sigma'(max(|h|, |r - r'|)),
    C = max_jk pi_j pi_k / [(rho_jk + rho_kj)/2] and phi(x) = (e^x - 1 - x)/x^2. Loose.
    """
    h, p = margins(theta, tau, log_base), bradley_terry(reward)
    apart, law = spread(residual(theta, reward, tau, log_base)) / tau, theta.softmax(-1)
    most = torch.maximum(h.abs().max(), differences(reward).abs().max())
    slope = torch.sigmoid(most) * torch.sigmoid(-most)
    off = ~torch.eye(len(law), dtype=torch.bool)
    cover = (torch.outer(law, law) / (edge_weights(rho) / 2))[off].max()
    excess = (rho * (preference_loss(h, p) - preference_loss(p.logit(), p))).sum()
    return _phi(apart) * cover * excess / (4 * tau**2 * slope**2)


def preference_loss(margin: Tensor, p: Tensor) -> Tensor:
    """Elementwise -p log sigma(h) - (1 - p) log sigma(-h)."""
    return -p * torch.nn.functional.logsigmoid(margin) - (1 - p) * torch.nn.functional.logsigmoid(-margin)


def covariance(rho: Tensor, reward: Tensor, tau: float, pairs: int) -> Tensor:
    """[n, n] of theta, estimated from N pairs with drawn labels: (N tau^2 L_{w p (1-p)})^+ (theory: eq. 15)."""
    p = bradley_terry(reward)
    return pseudo_inverse(laplacian(edge_weights(rho) * p * (1 - p))) / (pairs * tau**2)


def expected_kl(rho: Tensor, reward: Tensor, tau: float, pairs: int, log_base: Tensor | None = None) -> Tensor:
    """[] E KL(pi^ || pi^tau) = tr(F(pi^tau) L^+_{w p (1-p)}) / (2 N tau^2) to leading order (theory: eq. 15)."""
    law = log_target(reward, tau, log_base).exp()
    return (fisher(law) @ covariance(rho, reward, tau, pairs)).trace() / 2


def pseudo_inverse(symmetric: Tensor) -> Tensor:
    """Of a symmetric matrix, without directions of a relative size below 1e-12."""
    return torch.linalg.pinv(symmetric, hermitian=True, rtol=1e-12)


def _phi(x: Tensor) -> Tensor:
    """(e^x - 1 - x) / x^2, 1/2 at 0."""
    return (torch.expm1(x) - x) / x**2 if float(x) > 1e-4 else torch.as_tensor(0.5 + float(x) / 6, dtype=x.dtype)


def fixed_label_margin(steps: float, tau: float, weight: float = 1.0) -> float:
    """h of one pair with one certain label after gradient flow for `steps` = eta t from h = 0: h + e^h = 2 tau^2 w t +
    1.

    It grows without end, like log(2 tau^2 w t), and tau only sets the clock.
    """
    level = 2 * tau**2 * weight * steps + 1
    h = math.log(level)
    for _ in range(100):
        h -= (h + math.exp(h) - level) / (1 + math.exp(h))
    return h
