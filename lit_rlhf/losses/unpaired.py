"""Unpaired PRA: of single responses only good or bad is known (KTO, BCO, APO)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_rlhf.functional.segment import counted
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import Reduce, completion_rewards, one_of, positive, temperature
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Batch, Evidence, Observation, PreferenceBatch, Unit


class Anchor(ABC):
    """The reward between good and bad, a statistic of the whole optimizer step."""

    decay: float = 0.0
    """Weight of the past in its running mean."""

    @abstractmethod
    def columns(self, reward: Tensor, label: Tensor) -> Tensor:
        """[n, c] what must be averaged over the step, from rewards and labels [n]."""

    @abstractmethod
    def value(self, means: Tensor) -> Tensor:
        """[] the anchor, from the means [c]."""


@dataclass(frozen=True)
class Origin(Anchor):
    """0."""

    def columns(self, reward: Tensor, label: Tensor) -> Tensor:
        return reward[:, None]

    def value(self, means: Tensor) -> Tensor:
        return torch.zeros_like(means[0])


@dataclass(frozen=True)
class MeanReward(Anchor):
    """z = max(0, E r) over the step: with r = tau log(pi/u) an estimate of tau KL(pi || u).

    The paper averages over responses paired with other prompts; here the step's own are taken, at no further forward
    pass.
    """

    def columns(self, reward: Tensor, label: Tensor) -> Tensor:
        return reward[:, None]

    def value(self, means: Tensor) -> Tensor:
        return means[0].clamp_min(0.0)


@dataclass(frozen=True)
class ClassMeans(Anchor):
    """delta = (E[r | good] + E[r | bad]) / 2, by running means; of one class alone, where the other has not been seen.

    Args:
        decay: weight of the past at every step; 0 takes the step alone.
    """

    decay: float = 0.9

    def columns(self, reward: Tensor, label: Tensor) -> Tensor:
        return torch.stack([label * reward, label, (1 - label) * reward, 1 - label], dim=1)

    def value(self, means: Tensor) -> Tensor:
        total, mass = means[::2], means[1::2]
        of_class = total / torch.where(mass > 0, mass, 1.0)
        return of_class.sum() / (mass > 0).sum().clamp_min(1)


class Value(ABC):
    """The loss of one response by its reward less the anchor; a bad one is a good one with the sign turned."""

    @abstractmethod
    def __call__(self, distance: Tensor) -> Tensor:
        """[n]"""


@dataclass(frozen=True)
class Saturating(Value):
    """1 - sigma(x)."""

    def __call__(self, distance: Tensor) -> Tensor:
        return torch.sigmoid(-distance)


@dataclass(frozen=True)
class CrossEntropy(Value):
    """-log sigma(x)."""

    def __call__(self, distance: Tensor) -> Tensor:
        return -logsigmoid(distance)


@dataclass(frozen=True)
class UnpairedPRA(LossHead):
    """L = sum_S w [q lambda_D v(r - z) + (1 - q) lambda_U v(z - r)], r = tau log(pi/u), q the label, z the anchor.

    With `Saturating` and `MeanReward` it is KTO (https://arxiv.org/abs/2402.01306, equation 8); with `CrossEntropy` and
    `ClassMeans` BCO (https://arxiv.org/abs/2404.04656); with `Saturating` and `Origin` the unpaired APO-zero
    (https://arxiv.org/abs/2408.06266). No Boltzmann target in general.
    On pairs the ends are taken apart, the chosen with q = p and the rejected with q = 1 - p, and a pair is the unit.

    Args:
        tau: temperature.
        value: v; `Saturating` when None.
        anchor: z; `MeanReward` when None.
        desirable: lambda_D.
        undesirable: lambda_U.
        reduce: log-ratios of a completion are added, or averaged over its tokens.
    """

    tau: float = 0.1
    value: Value | None = None
    anchor: Anchor | None = None
    desirable: float = 1.0
    undesirable: float = 1.0
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(Reduce, self.reduce, self, "reduce")

    @property
    def family(self) -> str:
        return "PRA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "label"})

    @property
    def unit(self) -> Unit:
        return "sequence"

    @property
    def observes(self) -> int:
        return 1

    def observe(self, evidence: Evidence, batch: Batch) -> tuple[Observation, ...]:
        reward, label, weight = self._labelled(evidence, batch)
        anchor = self.anchor or MeanReward()
        return (Observation(anchor.columns(reward.detach(), label), weight, decay=anchor.decay),)

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        (seen,) = self.observe(evidence, batch) if evidence.observed is None else evidence.observed
        anchor = (self.anchor or MeanReward()).value(seen.mean() if seen.running is None else seen.running)
        reward, label, weight = self._labelled(evidence, batch)
        value = self.value or Saturating()
        good, bad = self.desirable * value(reward - anchor), self.undesirable * value(anchor - reward)
        losses = label * good + (1 - label) * bad
        unit = "pair" if isinstance(batch, PreferenceBatch) else "sequence"
        return LossOutput(
            (Term("unpaired", (weight * losses).sum(), unit),),
            (
                mean("rewards/good", reward, weight * label), mean("rewards/bad", reward, weight * (1 - label)),
                mean("anchor", anchor.expand(len(weight)), weight),
            ),
        )

    def _labelled(self, evidence: Evidence, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Reward, label and weight [n] of every response that has a label."""
        reward = completion_rewards(evidence, batch, temperature(evidence, self.tau), self.reduce)
        if isinstance(batch, PreferenceBatch):
            ends = torch.cat([batch.chosen, batch.rejected])
            label, weight = torch.cat([batch.probability, 1 - batch.probability]), batch.pair_weight.repeat(2)
            return counted(reward[ends], weight), label, weight
        return counted(reward, batch.sequence_weight), batch.reward, batch.sequence_weight
