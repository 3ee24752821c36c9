"""Where algorithms end that read rewards and have another end than pi^tau, or pi^tau of something else."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.losses.divergences import Divergence
from lit_rlhf.theory.boltzmann import log_target, soft_value
from lit_rlhf.theory.closed_forms.solving import increasing_root, normalised

# ---- RA with a constant of its own


def with_constant(reward: Tensor, tau: float, constant: float, law: Tensor, log_base: Tensor | None = None) -> Tensor:
    """[n] the minimiser of RA, E_{y ~ mu}[(tau log(pi/u) + c - r)^2], off policy with a constant c = V* + delta.

    Stationary points obey tau log(pi/pi^tau) + delta = e pi/mu, e the mean error. For c < V* there is one, the argmax
    of E_pi r - tau KL(pi || u) - (s/2) sum pi^2/mu with s = -e > 0: a mixed KL-chi^2 penalty, more conservative than
    pi^tau. It is the end of PMD-mean (c the mean reward, u the policy that sampled; https://arxiv.org/abs/2501.12599),
    of SPPO's round (r = P(y > mu), c = 1/2, u = mu; https://arxiv.org/abs/2405.00675), of UNA (c = 0;
    https://arxiv.org/abs/2408.15339) and of the naive off-policy gradient with baseline c. For c > V* this is the
    stationary point that goes on from pi^tau, and there may be others. Boltzmann for c = V*, or where mu = pi^tau.
    (theory: eq. 11 is its first order.)

    Args:
        constant: c.
        law: [n] mu, with mass on every response.

    Raises:
        InputError: a response has no mass, or c is so far above V* that the stationary point has disappeared.
    """
    if not bool((law > 0).all()):
        raise InputError("with_constant: the law leaves a response out, whose mass is then not determined; cover it")
    level = log_target(reward, tau, log_base) - (constant - float(soft_value(reward, tau, log_base))) / tau
    edge = float((law / (math.e * level.exp())).min()) * (1 - 1e-9)

    def found(pull: Tensor) -> Tensor:
        return _pulled(level, -pull / law).exp()

    low = torch.tensor(-1.0, dtype=reward.dtype)
    while float(found(low).sum()) > 1:
        low = 2 * low
    high = torch.tensor(edge, dtype=reward.dtype)
    if float(found(high).sum()) < 1:
        raise InputError(f"with_constant: c = {constant:g} is too far above V*; no stationary point is left near pi^tau")
    return normalised(found, low, high)


def _pulled(level: Tensor, weight: Tensor) -> Tensor:
    """[n] x with x + weight e^x = level, the smaller one where there are two, by Newton's method from the safe side."""
    x = level.clone()
    for _ in range(500):
        step = (x + weight * x.exp() - level) / (1 + weight * x.exp())
        x = x - step
        if float(step.abs().max()) < 1e-15 * (1 + float(x.abs().max())):
            break
    return x


def quantiles(reward: Tensor, log_base: Tensor | None = None) -> Tensor:
    """[n] the mass that u gives to worse responses, and half of that to equal ones.

    QRPO (https://arxiv.org/abs/2507.08068) ends at `boltzmann.log_target` of it where rewards have no ties and u no
    atoms; on finitely many responses its constant is not V* of it, and it ends at `with_constant(quantiles, tau,
    quantile_partition(tau), law, u)`.
    """
    u = (torch.zeros_like(reward) if log_base is None else log_base).softmax(-1)
    worse = (reward[None, :] < reward[:, None]).to(u.dtype) + (reward[None, :] == reward[:, None]) / 2
    return worse @ u


# ---- the policy gradient with another penalty, or none


def forward_kl(reward: Tensor, tau: float, log_base: Tensor) -> Tensor:
    """[n] tau u / (lambda - r), lambda > max r such that it sums to 1: the argmax of E_pi r - tau KL(u || pi).

    Dr. GRPO with k3 as a loss on single-token responses, whose expected gradient is that of KL(u || pi); f-DPO of the
    forward KL. Not Boltzmann: tails are polynomial in the reward.
    """
    u, best = log_base.softmax(-1), reward.max()

    def law(step: Tensor) -> Tensor:
        return tau * u / (best - step - reward)

    at_best = torch.where(reward == best, u, 0.0).max()
    return normalised(law, torch.as_tensor(-tau, dtype=reward.dtype), -tau * at_best)


def group_advantage(law: Tensor, reward: Tensor, size: int, std: bool = True, epsilon: float = 1e-6) -> Tensor:
    """[n] E[(r_1 - mean)/(std + epsilon) | y_1 = y], of groups of K independent draws from a law; std with K (GRPO)."""
    others = torch.tensor(list(itertools.product(range(len(law)), repeat=size - 1))).view(-1, size - 1)
    weight, theirs = law[others].prod(1), reward[others]
    every = torch.cat([reward[:, None, None].expand(-1, len(others), 1), theirs.expand(len(law), -1, -1)], dim=2)
    centred = reward[:, None] - every.mean(2)
    return (centred / (every.std(2, unbiased=False) + epsilon) if std else centred) @ weight


def grpo(reward: Tensor, tau: float, log_base: Tensor, size: int, epsilon: float = 1e-6) -> Tensor:
    """[n] pi = tau u / (lambda - A_pi), A_pi the mean standardised advantage under pi itself: GRPO with k3 as a loss.

    A fixed point, for single-token responses, on policy (https://arxiv.org/abs/2402.03300). Not Boltzmann, and it
    depends on K.

    Raises:
        InputError: the iteration does not settle.
    """
    law = log_base.softmax(-1)
    for _ in range(5000):
        found = forward_kl(group_advantage(law, reward, size, True, epsilon), tau, log_base)
        if float((found - law).abs().max()) < 1e-14:
            return found
        law = (law + found) / 2
    raise InputError(f"grpo: no fixed point was found at tau = {tau:g}; take a larger one")


def group_gain(p: Tensor, size: int, std: bool = True, mixed: bool = False) -> Tensor:
    """Elementwise the factor w by which a prompt of success rate p counts in GRPO: its gradient is w(p) grad p.

    Rewards 0 and 1, groups of K: w = E sqrt(m (1 - m)) / (p (1 - p)), m the share of successes, which tends to the
    gradient of 2 arcsin sqrt p; without the standard deviation (K - 1)/K (Dr. GRPO).

    Args:
        p: in (0, 1).
        mixed: groups of equal rewards are drawn again (DAPO): divided by 1 - p^K - (1 - p)^K.
    """
    right = torch.arange(size + 1, dtype=p.dtype)
    ways = torch.tensor([math.comb(size, k) for k in range(size + 1)], dtype=p.dtype)
    chance = ways * p[..., None] ** right * (1 - p[..., None]) ** (size - right)
    share = right / size
    spread = share * (1 - share)
    gain = (chance * (spread.sqrt() if std else spread)).sum(-1) / (p * (1 - p))
    return gain / (1 - p**size - (1 - p) ** size) if mixed else gain


def off_policy_reinforce(reward: Tensor, law: Tensor, baseline: float) -> Tensor:
    """[n] mu (r - b) / norm: where REINFORCE without importance weights or KL ends on data of a fixed law mu, b < min
    r.

    Raises:
        InputError: b is not below every reward: there is no end.
    """
    if not baseline < float(reward.min()):
        raise InputError(f"off_policy_reinforce: baseline is {baseline:g}, the least reward {float(reward.min()):g}")
    found = law * (reward - baseline)
    return found / found.sum()


# ---- likelihood of weighted or chosen samples


def weighted_likelihood(law: Tensor, weight: Tensor) -> Tensor:
    """[n] mu w / norm: weighted maximum likelihood on data of a law mu.

    w = e^{r/tau} is AWR (https://arxiv.org/abs/1910.00177), Boltzmann against the behaviour; weights that are cut bias
    it.
    """
    return law * weight / (law @ weight)


def best_of(reward: Tensor, number: int, log_base: Tensor) -> Tensor:
    """[n] F^N - F_-^N over levels of the reward, u within a level: the best of N draws from u, and likelihood on them
    (RAFT).

    Only the order of rewards counts. KL(. || u) <= log N - (N - 1)/N; k rounds, each from the last one's law, are N^k
    draws.
    """
    u = log_base.softmax(-1)
    worse = (reward[None, :] < reward[:, None]).to(u.dtype) @ u
    level = (reward[None, :] == reward[:, None]).to(u.dtype) @ u
    return ((worse + level) ** number - worse**number) * u / level


# ---- other divergences, other contrasts


def f_divergence(reward: Tensor, tau: float, log_base: Tensor, divergence: Divergence) -> Tensor:
    """[n] u w with f'(w) = (r + lambda)/tau and sum u w = 1: the end of f-DPO with Bradley-Terry labels.

    The argmax of E_pi r - tau D_f(pi || u) (https://arxiv.org/abs/2309.16240); Boltzmann for the reverse KL alone.
    """
    u, wide = log_base.softmax(-1), torch.full_like(reward, 60.0)
    middle = tau * divergence(torch.zeros((), dtype=reward.dtype))

    def law(shift: Tensor) -> Tensor:
        return u * increasing_root(lambda log_w: divergence(log_w) - (reward + shift) / tau, -wide, wide).exp()

    return normalised(law, middle - reward.max(), middle - reward.min())


def info_nca(reward: Tensor, tau: float, alpha: float, log_base: Tensor | None = None) -> Tensor:
    """[n] u e^{r/(alpha tau)} / Z, Boltzmann: K-way cross-entropy with softmax(r/alpha)
    (https://arxiv.org/abs/2402.05369).
    """
    return log_target(reward, alpha * tau, log_base).exp()


def nca(reward: Tensor, alpha: float, log_base: Tensor) -> Tensor:
    """[n] u e^{r/alpha} / Z, Boltzmann: pointwise contrast at tau = 1 on responses drawn from u
    (https://arxiv.org/abs/2402.05369).
    """
    return log_target(reward, alpha, log_base).exp()
