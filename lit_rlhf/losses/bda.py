"""BDA, Boltzmann-distribution approximation: the whole reward is known, and the policy's own law is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.functional import udrra
from lit_rlhf.functional.segment import mean_by
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import completion_logps, completion_rewards, positive, refuse_singles, temperature
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Evidence, ScoredBatch, Unit

Baseline = Literal["leave_one_out", "mean", "none"]


@dataclass(frozen=True)
class PolicyGradient(LossHead):
    """L = -sum_S w A(y) log pi(y), A = r - tau log(pi/u) less a baseline, without gradient (theory: eq. 5).

    With responses drawn from pi it is the gradient of -E r + tau KL(pi || u); on responses of another law it is RA with the
    baseline as its constant. tau = 0 is plain REINFORCE; leave-one-out is RLOO (https://arxiv.org/abs/2402.14740).

    Args:
        tau: temperature; 0 leaves the KL out.
        baseline: mean of the prompt's other responses, of all of them, or nothing.
    """

    tau: float = 0.1
    baseline: Baseline = "leave_one_out"

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reward"} | (set() if self.baseline == "none" else {"group"}))

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch) -> LossOutput:
        advantage, weight = self.advantages(evidence, batch), batch.sequence_weight
        logps = completion_logps(evidence, batch)
        return LossOutput(
            (Term("policy_gradient", -(weight * advantage * logps).sum(), "sequence"),),
            (mean("advantage", advantage, weight), mean("advantage_square", advantage.square(), weight)),
        )

    def advantages(self, evidence: Evidence, batch: ScoredBatch) -> Tensor:
        """[S] without gradient."""
        implicit = completion_rewards(evidence, batch, temperature(evidence, self.tau)).detach()
        shaped = batch.reward - implicit
        if self.baseline == "none":
            return shaped
        refuse_singles(batch, self)
        group, count = batch.sequences.prompt_of, len(batch.sequences.prompt_lengths)
        if self.baseline == "leave_one_out":
            return udrra.leave_one_out(shaped, group, count)
        return shaped - mean_by(shaped, group, count)[group]


@dataclass(frozen=True)
class ExponentialWeight(LossHead):
    """L = -sum_S w e^{(r - b)/tau} log pi(y): the forward KL from mu e^{r/tau} / Z, mu the data's law (AWR, RWR).

    Equals pi^tau of the reference only where the data were drawn from it. See "Advantage-Weighted Regression" by Peng et al.
    (https://arxiv.org/abs/1910.00177).

    Args:
        tau: temperature.
        baseline: b, the mean reward of the prompt's responses, or 0; it changes the weight of prompts, not their targets.
        largest: weights are cut here, which biases the target; None does not cut.
    """

    tau: float = 1.0
    baseline: Literal["mean", "none"] = "none"
    largest: float | None = None

    def __post_init__(self) -> None:
        positive(self.tau, self)

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reward"} | (set() if self.baseline == "none" else {"group"}))

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch) -> LossOutput:
        weight = batch.sequence_weight
        shift = self.shift(batch)
        importance = ((batch.reward - shift) / temperature(evidence, self.tau)).exp().detach()
        cut = importance if self.largest is None else importance.clamp_max(self.largest)
        logps = completion_logps(evidence, batch)
        return LossOutput(
            (Term("weighted_nll", -(weight * cut * logps).sum(), "sequence"),),
            (mean("weight", cut, weight), mean("weight_cut", (cut < importance).to(cut.dtype), weight)),
        )

    def shift(self, batch: ScoredBatch) -> Tensor:
        """[S] b."""
        if self.baseline == "none":
            return torch.zeros_like(batch.reward)
        refuse_singles(batch, self)
        group = batch.sequences.prompt_of
        return mean_by(batch.reward, group, len(batch.sequences.prompt_lengths))[group]
