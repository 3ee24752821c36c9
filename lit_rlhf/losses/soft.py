"""Soft actor-critic on tokens: the state is what was written so far, the action the next token.

pi^tau solves Q(s, a) = r + gamma V(s'), V(s) = E_{a~pi}[Q(s, a) - tau log pi(a | s)], pi = exp((Q - V) / tau).
With a reference tau log(pi / u) stands for tau log pi, and pi = u exp((Q - V) / tau): a critic that knows nothing
leaves the policy at u.
See "Soft Actor-Critic" by Haarnoja et al. (https://arxiv.org/abs/1801.01290 and 1812.05905), and "Soft Actor-Critic for
Discrete Action Settings" by Christodoulou (https://arxiv.org/abs/1910.07207).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import segment
from lit_rlhf.functional.soft_q import by_chunks, following, is_last, soft_value
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import counted, one_of, positive, required
from lit_rlhf.losses.metrics import mean
from lit_rlhf.losses.regularisers import Regulariser
from lit_rlhf.types import Batch, Evidence, Unit

AtCut = Literal["terminal", "bootstrap"]
"""What a completion's last token is worth where it was cut: the reward alone, or it is left out."""


@dataclass(frozen=True)
class SoftPolicy(LossHead):
    """L = sum_t w_t E_{a~pi}[tau log(pi / u)(a | s_t) - min_i Q_i(s_t, a)], the mean taken over the whole vocabulary.

    Up to a constant tau KL(pi || u e^{Q/tau} / Z) in every state; it moves the policy alone.
    See 1812.05905, equation 7, and 1910.07207, equation 12.

    Args:
        tau: temperature; a learned one takes its place.
    """

    tau: float = 0.1

    def __post_init__(self) -> None:
        positive(self.tau, self)

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"soft_q"})

    @property
    def unit(self) -> Unit:
        return "token"

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        soft, tau, weight = required(evidence, "soft_q"), _constant(evidence, self.tau), batch.token_weight
        values = over_states(evidence, batch, soft.critic, tau)
        term = Term("soft_policy", -(weight * values).sum(), "token")
        return LossOutput((term,), (mean("soft_value", values, weight),))


@dataclass(frozen=True)
class SoftQ(LossHead):
    """L = sum_t w_t sum_i (Q_i(s_t, a_t) - y_t)^2 / 2, y_t = r_t + gamma V(s_{t+1}); it moves the critics alone.

    V(s) = E_{a~pi}[min_i Q'_i(s, a) - tau log(pi / u)(a | s)] over the whole vocabulary, Q' the slow copies, and 0
    after the last trained token. r_t is what was received at the token, and the completion's reward at its last trained one.
    Tokens that are not trained on are part of the way to the next state.
    See 1812.05905, equations 5 and 6, and 1910.07207, equation 10.

    Args:
        tau: temperature; a learned one takes its place.
        gamma: discount of a token.
        cut: whether a cut completion ends with its reward (`terminal`), or its last token, of which nobody saw where it
            leads, is not trained on and its reward not used (`bootstrap`).
    """

    tau: float = 0.1
    gamma: float = 1.0
    cut: AtCut = "terminal"

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(AtCut, self.cut, self, "cut")
        if not 0 <= self.gamma <= 1:
            raise InputError(f"SoftQ.gamma is {self.gamma}; a discount is between 0 and 1")

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"soft_q", "reward"} | ({"finished"} if self.cut == "bootstrap" else set()))

    @property
    def unit(self) -> Unit:
        return "token"

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        soft, weight = required(evidence, "soft_q"), self._weight(batch)
        target = self._target(evidence, batch, soft)
        taken = soft.taken(batch.sequences.completion_ids)
        error = segment.counted(taken - target, weight).square().sum(0)
        metrics = mean("soft_q", taken.mean(0), weight), mean("soft_q_error", error / 2, weight)
        return LossOutput((Term("soft_q", (weight * error).sum() / 2, "token"),), metrics)

    @torch.no_grad()
    def _target(self, evidence: Evidence, batch: Batch, soft: Any) -> Tensor:
        """[T] y; 0 at tokens that are not trained on."""
        tau, reward = _constant(evidence, self.tau), required(batch, "reward")
        values = over_states(evidence, batch, soft.target, tau)
        trained, owner = _trained(batch)
        received = torch.where(is_last(owner), reward[owner], 0.0)
        if getattr(batch, "token_reward", None) is not None:
            received = received + batch.token_reward[trained]
        return torch.zeros_like(values).index_copy(
            0, trained, (received + self.gamma * following(values[trained], owner)).to(values.dtype)
        )

    def _weight(self, batch: Batch) -> Tensor:
        """[T] of the tokens, without the last ones of cut completions where those are left out."""
        if self.cut == "terminal":
            return batch.token_weight
        trained, owner = _trained(batch)
        unknown = trained[is_last(owner) & ~required(batch, "finished")[owner]]
        return batch.token_weight.index_fill(0, unknown, 0.0)


@dataclass(frozen=True)
class TemperatureLoss(Regulariser):
    """L = sum_t w_t tau (H(pi(. | s_t)) - target), H and the target constant: it moves the learned temperature alone.

    tau rises where the policy has less entropy than asked for, and falls where it has more. With a reference
    -KL(pi(. | s_t) || u(. | s_t)) stands for H; both are sums over the whole vocabulary.
    See 1812.05905, equation 18, and 1910.07207, equation 11.

    Args:
        target_entropy: of a token, in nats; with a reference less the divergence from it, and so below 0.
    """

    target_entropy: float = 1.0

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"tau", "soft_q"})

    @property
    def unit(self) -> Unit:
        return "token"

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        tau, weight = required(evidence, "tau"), batch.token_weight
        with torch.no_grad():
            entropy = over_states(evidence, batch, lambda rows: torch.zeros_like(weight[rows, None]), 1.0)
        total = tau * (weight * (entropy - self.target_entropy)).sum()
        metrics = mean("relative_entropy", entropy, weight), mean("tau", tau.expand(len(weight)), weight)
        return LossOutput((Term("temperature", total, "token"),), metrics)


def over_states(evidence: Evidence, batch: Batch, critic: Callable[[slice], Tensor], tau: Tensor | float) -> Tensor:
    """[T] E_{a~pi}[critic - tau log(pi / u)] of the tokens' states, chunk by chunk; 0 where a token does not count.

    Raises:
        InputError: there is a reference, and it is not known over the whole vocabulary.
    """
    soft, posterior = required(evidence, "soft_q"), evidence.reference is not None
    if posterior and soft.base is None:
        raise InputError("soft values read the reference over the whole vocabulary; give SoftStates its `base`")

    def value(rows: slice) -> Tensor:
        return soft_value(soft.policy(rows), critic(rows).detach(), tau, soft.base(rows) if posterior else None)

    return counted(by_chunks(value, len(batch.sequences.completion_ids), soft.vocabulary), batch)


def _constant(evidence: Evidence, tau: float) -> Tensor | float:
    """The temperature, without gradient."""
    return tau if evidence.tau is None else evidence.tau.detach()


def _trained(batch: Batch) -> tuple[Tensor, Tensor]:
    """[n], [n] the tokens that are trained on and the completion of each."""
    trained = (batch.sequences.token_weight != 0).nonzero()[:, 0]
    return trained, segment.owner(batch.sequences.completion_lengths)[trained]
