"""Where algorithms end that read preferences: any probabilities p [n, n] with p + p^T = 1, any pair law rho [n, n]."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.theory.boltzmann import log_target
from lit_rlhf.theory.residual import bradley_terry, differences, edge_weights, fisher, laplacian, pseudo_inverse

# ---- the logistic link


def zermelo(rho: Tensor, p: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] the minimiser of PRA (DPO): sum_k w_jk (sigma(h_jk) - p_jk) = 0.

    pi^tau where p is Bradley-Terry, whatever rho; elsewhere u e^{s/tau} / Z, s being the scores that fit p best under
    rho.

    Raises:
        InputError: a label is outside [0, 1], or some responses are never preferred to the others, so that margins grow
            without end (L. R. Ford, "Solution of a ranking problem from binary comparisons", 1957).
    """
    weights = edge_weights(rho)
    refuse_without_optimum(weights, p)
    scores = torch.zeros(len(p), dtype=p.dtype)
    for _ in range(200):
        q = torch.sigmoid(differences(scores))
        gradient = (weights * (q - p)).sum(1)
        step = pseudo_inverse(laplacian(weights * q * (1 - q))) @ gradient
        scores = scores - step / max(1.0, float(step.abs().max()))
        if float(step.abs().max()) < 1e-14 * (1 + float(scores.abs().max())):
            break
    return log_target(scores, tau, log_base).exp()


def refuse_without_optimum(weights: Tensor, p: Tensor) -> None:
    """Raises: InputError: the PRA loss of these pairs has no finite minimiser, or several."""
    from scipy.sparse.csgraph import connected_components

    if not bool(((p >= 0) & (p <= 1))[weights > 0].all()):
        raise InputError("a label is outside [0, 1]: the loss has no lower bound; set a lower noise rate")
    parts = connected_components(((weights > 0) & (p > 0)).numpy(), directed=True, connection="strong")[0]
    if parts > 1:
        raise InputError(
            f"the graph of wins falls into {parts} strongly connected parts: the loss has no unique finite minimiser; "
            "use soft or smoothed labels, or more pairs"
        )


def smoothed(p: Tensor, eps: float) -> Tensor:
    """Elementwise (1 - 2 eps) p + eps: labels of cDPO (https://ericmitchell.ai/cdpo.pdf), Bradley-Terry no more."""
    return (1 - 2 * eps) * p + eps


def denoised(p: Tensor, eps: float) -> Tensor:
    """Elementwise (p - eps) / (1 - 2 eps), which undoes `smoothed`: robust DPO (https://arxiv.org/abs/2403.00409)."""
    return (p - eps) / (1 - 2 * eps)


def implied_labels(density: Tensor) -> Tensor:
    """[n, n] q(y, y') / (q(y, y') + q(y', y)): what wins of a density q [n, n] of (chosen, rejected) say; else 1/2."""
    both = density + density.T
    return torch.where(both > 0, density / torch.where(both > 0, both, 1.0), 0.5)


def data_ratio(winners: Tensor, losers: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] u (q_w/q_l)^{1/tau} / Z: DPO's minimiser where chosen ~ q_w and rejected ~ q_l independently.

    Theory: eq. 14. It is pi^tau if and only if q_w ~ q_l e^r.
    """
    return log_target(winners.log() - losers.log(), tau, log_base).exp()


def exploring(reward: Tensor, tau: float, alpha: float, log_base: Tensor) -> Tensor:
    """[n] pi^tau with d displaced by -(alpha/tau) L^+_{w p (1-p)} (u - pi^tau): XPO, to first order in alpha.

    w is of pi^tau x u: one end of each pair is the policy's own and one the reference's. Not Boltzmann for alpha > 0.
    See https://arxiv.org/abs/2405.21046.
    """
    target, u, p = log_target(reward, tau, log_base), log_base.softmax(-1), bradley_terry(reward)
    weights = edge_weights(torch.outer(target.exp(), u))
    moved = -alpha / tau * pseudo_inverse(laplacian(weights * p * (1 - p))) @ (u - target.exp())
    return (target + moved / tau).softmax(-1)


# ---- other links


def win_rate(p: Tensor, law: Tensor) -> Tensor:
    """[n] P(y > mu) = E_{y' ~ mu} p(y > y'), a response of the same kind counting 1/2."""
    return p @ law


def ipo(rho: Tensor, p: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] u e^s / Z, s = L_w^+ sum_k w_jk (p_jk - 1/2)/tau: least squares of log-ratios to (2 p - 1)/(2 tau).

    On pairs of mu x mu it is u e^{P(y > mu)/tau} / Z (https://arxiv.org/abs/2310.12036, where tau is no Boltzmann
    temperature): pi^tau of the win rate and not of the reward. With labels of any other rho it depends on rho.

    Raises:
        InputError: pairs do not connect all responses.
    """
    weights = edge_weights(rho)
    refuse_disconnected(weights)
    log_ratio = pseudo_inverse(laplacian(weights)) @ (weights * (p - 0.5)).sum(1) / tau
    return log_target(log_ratio, 1.0, log_base).exp()


def refuse_disconnected(weights: Tensor) -> None:
    """Raises: InputError: the graph of these weights [n, n] is not connected."""
    from scipy.sparse.csgraph import connected_components

    parts = connected_components((weights > 0).numpy(), directed=False)[0]
    if parts > 1:
        raise InputError(f"pairs join the responses to {parts} groups, and say nothing between them; add pairs across")


def regularised_nash(p: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] pi = u e^{P(y > pi)/tau} / Z, a fixed point: on-line IPO and Nash-MD (https://arxiv.org/abs/2312.00886).

    The policy that no other beats once each pays tau KL(. || u); unique, as p - 1/2 is antisymmetric. Of p that is
    Bradley-Terry it is not pi^tau of the reward either.

    Raises:
        InputError: Newton's method does not settle.
    """
    base = torch.zeros(len(p), dtype=p.dtype) if log_base is None else log_base

    def apart(theta: Tensor) -> Tensor:
        return theta - base - p @ theta.softmax(-1) / tau

    theta = base.clone()
    for _ in range(200):
        gap = apart(theta)
        if float(gap.abs().max()) < 1e-13 / min(tau, 1.0):
            return theta.softmax(-1)
        step = torch.linalg.solve(torch.eye(len(p), dtype=p.dtype) - p @ fisher(theta.softmax(-1)) / tau, gap)
        share = 1.0
        while float(apart(theta - share * step).norm()) > float(gap.norm()) and share > 1e-6:
            share /= 2
        theta = theta - share * step
    raise InputError(f"regularised_nash: no fixed point was found at tau = {tau:g}; take a larger one")


def nca_pair(p: Tensor, log_base: Tensor) -> Tensor:
    """[n] 2 u P(y > u), not Boltzmann: pointwise contrast of pairs of u x u at tau = 1 (NCA on preferences).

    See https://arxiv.org/abs/2402.05369.
    """
    u = log_base.softmax(-1)
    return 2 * u * win_rate(p, u)
