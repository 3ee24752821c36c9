"""What the policy losses on rollouts share: ratios under the law that sampled, averaging, and the metrics of both."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import exponential, kl, policy, segment
from lit_rlhf.losses.averaging import Average, total_of, unit_of
from lit_rlhf.losses.base import LossHead, LossOutput, Metric, Term
from lit_rlhf.losses.evidence import acting_logps, behaviour_logps, one_of, positive, required
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Evidence, Rollout, Unit


@dataclass(frozen=True)
class Drawn:
    """What a policy loss reads of evidence and rollout; 0 at tokens that do not count."""

    acting: Tensor
    """[T] log pi under the law that sampled."""
    behaviour: Tensor
    """[T] log pi_old."""
    advantage: Tensor
    """[T]"""
    weight: Tensor
    """[T] of each token, times that of its sequence."""
    rollout: Rollout

    @property
    def log_ratio(self) -> Tensor:
        """[T] log(pi/pi_old) of each token."""
        return self.acting - self.behaviour

    def sequence_log_ratio(self, per_token: bool) -> Tensor:
        """[T] that of each token's whole sequence, or its mean over the tokens."""
        sequences = self.rollout.sequences
        weight = sequences.token_weight.to(self.acting.dtype)
        return policy.sequence_log_ratio(self.log_ratio, sequences.completion_lengths, weight, per_token)


class Surrogate(LossHead):
    """L = -sum of an objective per token, averaged as `average` says.

    A subclass is a frozen dataclass with both fields.
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
                name = type(self).__name__
                raise InputError(f"{name}.length divides sums of tokens; set average=sum, or leave it out")

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "behaviour", "advantages"})

    @property
    def unit(self) -> Unit:
        return unit_of(self.average)

    @abstractmethod
    def objective(self, seen: Drawn) -> Tensor:
        """[T] what is to be made large, with its gradient."""

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        """Those of this head alone, without gradient."""
        return ()

    def __call__(self, evidence: Evidence, batch: Rollout) -> LossOutput:
        acting, weight = acting_logps(evidence, batch), batch.token_weight
        advantage = segment.counted(required(batch, "advantages"), weight)
        seen = Drawn(acting, behaviour_logps(batch, self), advantage, weight.to(acting.dtype), batch)
        total = -total_of(self.objective(seen), batch, self.average) / (self.length or 1)
        with torch.no_grad():
            metrics = (*of_ratios(seen), *self.more_metrics(seen))
        return LossOutput((Term("policy", total, self.unit),), metrics)


def of_ratios(seen: Drawn) -> tuple[Metric, ...]:
    """Means over tokens of the ratio, the KL from the behaviour and the advantage."""
    return (
        mean("ratio", exponential.exp(seen.log_ratio), seen.weight),
        mean("approx_kl", kl.k3(seen.behaviour, seen.acting), seen.weight),
        mean("approx_kl_k1", kl.k1(seen.behaviour, seen.acting), seen.weight),
        mean("advantage", seen.advantage, seen.weight),
        mean("advantage_square", seen.advantage.square(), seen.weight),
    )
