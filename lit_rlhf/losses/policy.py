"""BDA on rollouts: the policy gradient with advantages, and what clips or weighs its ratio to the behaviour.

A ratio is pi/pi_old under the law that sampled the tokens (its temperature, its kept tokens), pi_old the behaviour.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import exponential, kl, segment
from lit_rlhf.functional import policy as pure
from lit_rlhf.functional.udrra import over_completions
from lit_rlhf.losses.base import LossHead, LossOutput, Metric, Term
from lit_rlhf.losses.evidence import acting_logps, behaviour_logps, one_of, positive, required
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Evidence, Rollout, Unit

Average = Literal["token", "sequence", "sum"]
"""How the tokens of a step become one number: their mean; the mean over sequences of the mean, or of the sum, of each."""
Ratio = Literal["token", "sequence"]
"""pi/pi_old of each token, or [pi(y)/pi_old(y)]^(1/|y|) of its sequence."""


@dataclass(frozen=True)
class Drawn:
    """What the heads of this module read of evidence and rollout; 0 at tokens that do not count."""

    acting: Tensor
    """[T] log pi under the law that sampled."""
    behaviour: Tensor
    """[T] log pi_old."""
    advantage: Tensor
    """[T]"""
    lengths: Tensor
    """[S] tokens of each completion."""
    token_weight: Tensor
    """[T] of each token within its sequence."""
    weight: Tensor
    """[T] the same times that of its sequence."""

    @property
    def log_ratio(self) -> Tensor:
        """[T] log(pi/pi_old) of each token."""
        return self.acting - self.behaviour

    def sequence_log_ratio(self, per_token: bool) -> Tensor:
        """[T] that of each token's whole sequence, or its mean over the tokens."""
        return pure.sequence_log_ratio(self.log_ratio, self.lengths, self.token_weight, per_token)


class Surrogate(LossHead):
    """L = -sum of an objective per token, averaged as `average` says. A subclass is a frozen dataclass with both fields.

    Metrics are means over tokens: `ratio` = pi/pi_old, `advantage` and `advantage_square`, and estimates of
    KL(pi_old || pi) in nats per token: `approx_kl` = r - 1 - log r (k3, never negative), `approx_kl_k1` = -log r.
    """

    average: Average
    length: int | None

    def __post_init__(self) -> None:
        one_of(Average, self.average, self, "average")
        if self.length is not None:
            positive(self.length, self, "length")
            if self.average != "sum":
                raise InputError(f"{type(self).__name__}.length divides sums of tokens; set average=sum, or leave it out")

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "behaviour", "advantages"})

    @property
    def unit(self) -> Unit:
        return "token" if self.average == "token" else "sequence"

    @abstractmethod
    def objective(self, seen: Drawn) -> Tensor:
        """[T] what is to be made large, with its gradient."""

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        """Those of this head alone."""
        return ()

    def __call__(self, evidence: Evidence, batch: Rollout) -> LossOutput:
        sequences, acting, weight = batch.sequences, acting_logps(evidence, batch), batch.token_weight
        seen = Drawn(
            acting, behaviour_logps(batch, self), segment.counted(required(batch, "advantages"), weight),
            sequences.completion_lengths, sequences.token_weight.to(acting.dtype), weight.to(acting.dtype),
        )
        total = self._total(self.objective(seen), seen, batch)
        return LossOutput((Term("policy", -total, self.unit),), (*of_ratios(seen), *self.more_metrics(seen)))

    def _total(self, objective: Tensor, seen: Drawn, batch: Rollout) -> Tensor:
        """[] the sum over tokens, or over the means or sums of sequences."""
        if self.average == "token":
            return (seen.weight * objective).sum()
        reduce = "mean" if self.average == "sequence" else "sum"
        per_sequence = over_completions(objective, seen.token_weight, seen.lengths, reduce)
        return (batch.sequence_weight * per_sequence).sum() / (self.length or 1)


@torch.no_grad()
def of_ratios(seen: Drawn) -> tuple[Metric, ...]:
    """Means over tokens of the ratio, the KL from the behaviour and the advantage."""
    log_ratio, weight = seen.log_ratio, seen.weight
    return (
        mean("ratio", exponential.exp(log_ratio), weight),
        mean("approx_kl", kl.k3(seen.behaviour, seen.acting), weight),
        mean("approx_kl_k1", kl.k1(seen.behaviour, seen.acting), weight),
        mean("advantage", seen.advantage, weight),
        mean("advantage_square", seen.advantage.square(), weight),
    )


@dataclass(frozen=True)
class Reinforce(Surrogate):
    """L = -sum_t A_t log pi_t, the policy gradient, right where pi sampled the tokens (REINFORCE, A2C, RLOO).

    See "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning" by Williams
    (https://doi.org/10.1007/BF00992696).

    Args:
        average: mean over all tokens of the step, or over sequences of each one's mean or sum. `sum` is the gradient of the
            expected reward.
        length: what the sums of sequences are divided by; None is 1.
    """

    average: Average = "sum"
    length: int | None = None

    def objective(self, seen: Drawn) -> Tensor:
        return seen.advantage * seen.acting


@dataclass(frozen=True)
class ClippedSurrogate(Surrogate):
    """L = -sum_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t), r = pi/pi_old (PPO, https://arxiv.org/abs/1707.06347).

    How it is averaged makes the algorithm: `token` is PPO's, BNPO's and DAPO's (https://arxiv.org/abs/2503.14476),
    `sequence` GRPO's (https://arxiv.org/abs/2402.03300), `sum` with a constant `length` Dr. GRPO's
    (https://arxiv.org/abs/2503.20783). With ratio=sequence, average=sequence is GSPO (https://arxiv.org/abs/2507.18071) and
    average=sum LUSPO (https://arxiv.org/abs/2602.05261), which weighs GSPO's sequences by |y|.

    Metrics: `clip_low` and `clip_high`, shares of tokens whose gradient was cut because the ratio had fallen or risen
    enough, and `clip_dual` with `dual`.

    Args:
        low: a ratio below 1 - low has no gradient where A < 0.
        high: a ratio above 1 + high has none where A > 0.
        ratio: that of each token, or that of its sequence to the power 1/|y|, which then moves all tokens alike.
        dual: a ratio above it, greater than 1, has no gradient where A < 0 (https://arxiv.org/abs/1912.09729).
        average: mean over all tokens of the step, or over sequences of each one's mean or sum.
        length: what the sums of sequences are divided by; None is 1.
    """

    low: float = 0.2
    high: float = 0.2
    ratio: Ratio = "token"
    dual: float | None = None
    average: Average = "token"
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Ratio, self.ratio, self, "ratio")
        positive(self.low, self, "low")
        positive(self.high, self, "high")
        if self.dual is not None and not self.dual > 1 + self.high:
            raise InputError(f"ClippedSurrogate.dual is {self.dual}; it is greater than 1 + high = {1 + self.high}")

    def ratios(self, seen: Drawn) -> Tensor:
        """[T] of tokens, or of their sequences."""
        return exponential.exp(seen.log_ratio if self.ratio == "token" else seen.sequence_log_ratio(per_token=True))

    def objective(self, seen: Drawn) -> Tensor:
        found = pure.clipped_surrogate(self.ratios(seen), seen.advantage, self.low, self.high)
        return found if self.dual is None else pure.dual_clip(found, seen.advantage, self.dual)

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        ratio, bad = self.ratios(seen).detach(), seen.advantage < 0
        cut = {"clip_low": (ratio < 1 - self.low) & bad, "clip_high": (ratio > 1 + self.high) & (seen.advantage > 0)}
        if self.dual is not None:
            cut["clip_dual"] = (ratio > self.dual) & bad
        return tuple(mean(name, where.to(ratio.dtype), seen.weight) for name, where in cut.items())
