"""The Boltzmann target pi^tau = u e^{r/tau} / Z over n responses, and what the temperature does to it.

u is the reference in the posterior form and 1 in the prior form (`log_base` None); with the law that sampled in its
place it is the target against the behaviour. Laws come back as log-probs, which are finite at any temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_target(reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] log pi^tau = log u + r/tau - log Z (theory: eq. 1).

    Args:
        reward: [n]
        tau: positive.
        log_base: [n] log u, which need not be normalised; None is u = 1.
    """
    return (_base(reward, log_base) + reward / tau).log_softmax(-1)


def soft_value(reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] V* = tau log sum_y u(y) e^{r(y)/tau}, in the units of the reward (theory: eq. 1)."""
    return tau * (_base(reward, log_base) + reward / tau).logsumexp(-1)


def log_optimum(reward: Tensor, log_base: Tensor | None = None) -> Tensor:
    """[n] log pi^delta: u restricted to the responses of the highest reward; the limit of pi^tau as tau -> 0."""
    return torch.where(reward == reward.max(), _base(reward, log_base), -torch.inf).log_softmax(-1)


def log_refreshed(reward: Tensor, tau: float, log_base: Tensor, rounds: int) -> Tensor:
    """[n] log of u e^{k r/tau} / Z: k exact rounds of a posterior form, the policy becoming the reference after each.

    It is the target at tau/k, and tends to pi^delta.
    """
    return log_target(reward, tau / rounds, log_base) if rounds else log_base.log_softmax(-1)


# ---- towards the best responses


def outside_mass(reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] 1 - pi^tau(A*) = S / (u(A*) + S), S = sum_{y not in A*} u(y) e^{-(max r - r(y))/tau} (theory: eq. 2)."""
    u, best, gap = _law(reward, log_base), reward == reward.max(), reward.max() - reward
    rest = (u * torch.exp(-gap / tau))[~best].sum()
    return rest / (u[best].sum() + rest)


def outside_bound(reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] e^{-Delta/tau} (1 - u(A*)) / u(A*), Delta the gap from the best to the second best reward (theory: eq. 2)."""
    u, best = _law(reward, log_base), reward == reward.max()
    gap = reward.max() - reward[~best].max()
    return torch.exp(-gap / tau) * (1 - u[best].sum()) / u[best].sum()


def regret_bound(reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] max r - E_{pi^tau} r <= tau log(1/u(A*)) (theory: eq. 3)."""
    return -tau * _law(reward, log_base)[reward == reward.max()].sum().log()


def reward_slope(reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] d E_{pi^tau}[r] / d tau = -Var_{pi^tau}(r) / tau^2, which is never positive."""
    return -variance(log_target(reward, tau, log_base), reward) / tau**2


# ---- distances


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """[] KL(p || q) in nats over the last axis; responses without mass under p count 0."""
    return torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1)


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    """[] half the sum of |p - q|."""
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def variance(log_law: Tensor, values: Tensor) -> Tensor:
    """[] of `values` [n] under a law."""
    law = log_law.exp()
    return law @ (values - law @ values).square()


def objective(log_law: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] J(pi) = E_pi r - tau KL(pi || u); J(pi^tau) - J(pi) = tau KL(pi || pi^tau)."""
    return log_law.exp() @ reward - tau * kl(log_law, _base(reward, log_base))


def error(log_law: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[n] g = tau log(pi/u) - r, which is -V* everywhere if and only if pi = pi^tau."""
    return tau * (log_law - _base(reward, log_base)) - reward


def kl_to_target(log_law: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] KL(pi || pi^tau) = log E_pi e^{-(g - E_pi g)/tau}, without the partition function (theory: eq. 4)."""
    g = error(log_law, reward, tau, log_base)
    return (log_law - (g - log_law.exp() @ g) / tau).logsumexp(-1)


def kl_from_target(log_law: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] KL(pi^tau || pi) = log E_{pi^tau} e^{(g - E_{pi^tau} g)/tau} (theory: eq. 4)."""
    g, target = error(log_law, reward, tau, log_base), log_target(reward, tau, log_base)
    return (target + (g - target.exp() @ g) / tau).logsumexp(-1)


def kl_second_order(log_law: Tensor, reward: Tensor, tau: float, log_base: Tensor | None = None) -> Tensor:
    """[] Var_pi(g) / (2 tau^2), the leading order of both (theory: eq. 4)."""
    return variance(log_law, error(log_law, reward, tau, log_base)) / (2 * tau**2)


def _base(reward: Tensor, log_base: Tensor | None) -> Tensor:
    return torch.zeros_like(reward) if log_base is None else log_base


def _law(reward: Tensor, log_base: Tensor | None) -> Tensor:
    return _base(reward, log_base).softmax(-1)
