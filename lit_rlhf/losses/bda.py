"""BDA, Boltzmann-distribution approximation: the whole reward is known, and the policy's own law is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import udrra
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import Responses, completion_logps, one_of, positive, responses, temperature
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Evidence, Rollout, ScoredBatch, Unit

Baseline = Literal["leave_one_out", "mean", "none"]
Shift = Literal["mean", "none"]


@dataclass(frozen=True)
class PolicyGradient(LossHead):
    """L = -sum_S w A(y) log pi(y), A = r - tau log(pi/u) less a baseline, without gradient (theory: eq. 5).

    With responses drawn from pi it is the gradient of -E r + tau KL(pi || u); on those of another law it is RA with
    the baseline as its constant. tau = 0 is plain REINFORCE; leave-one-out is RLOO (https://arxiv.org/abs/2402.14740).

    Args:
        tau: temperature; 0 leaves the KL out.
        baseline: mean of the prompt's other responses, of all of them, or nothing.
    """

    tau: float = 0.1
    baseline: Baseline = "leave_one_out"

    def __post_init__(self) -> None:
        if not self.tau >= 0:
            raise InputError(f"PolicyGradient.tau is {self.tau}; it is 0 or a positive number")
        one_of(Baseline, self.baseline, self, "baseline")

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reward"} | (set() if self.baseline == "none" else {"group"}))

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch | Rollout) -> LossOutput:
        found = responses(evidence, batch, temperature(evidence, self.tau))
        advantage, weight = self.advantages(found), found.weight
        logps = completion_logps(evidence, batch)[found.rows]
        return LossOutput(
            (Term("policy_gradient", -(weight * advantage * logps).sum(), "sequence"),),
            (mean("advantage", advantage, weight), mean("advantage_square", advantage.square(), weight)),
        )

    def advantages(self, found: Responses) -> Tensor:
        """[n] without gradient."""
        shaped = found.reward - found.implicit.detach()
        if self.baseline == "none":
            return shaped
        found.refuse_singles(self)
        if self.baseline == "leave_one_out":
            return udrra.leave_one_out(shaped, found.prompt, found.prompts)
        return shaped - found.mean(shaped)


@dataclass(frozen=True)
class ExponentialWeight(LossHead):
    """L = -sum_S w e^{(r - b)/tau} log pi(y): the forward KL from mu e^{r/tau} / Z, mu the data's law (AWR, RWR).

    Equals pi^tau of the reference only where the data were drawn from it.
    See "Advantage-Weighted Regression" by Peng et al. (https://arxiv.org/abs/1910.00177).

    Args:
        tau: temperature.
        baseline: b, the mean reward of the prompt's K responses, or 0. The mean changes how much prompts weigh, and holds
            1/K of each reward: the target is then that of tau K / (K - 1).
        largest: weights are cut here, which biases the target; None does not cut.

    Raises:
        InputError: a weight overflows, and none is cut.
    """

    tau: float = 1.0
    baseline: Shift = "none"
    largest: float | None = None

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(Shift, self.baseline, self, "baseline")

    @property
    def family(self) -> str:
        return "BDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reward"} | (set() if self.baseline == "none" else {"group"}))

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch | Rollout) -> LossOutput:
        tau = temperature(evidence, self.tau)
        found = responses(evidence, batch, tau)
        importance, weight = self.importance(found, tau), found.weight
        cut = importance if self.largest is None else importance.clamp_max(self.largest)
        logps = completion_logps(evidence, batch)[found.rows]
        return LossOutput(
            (Term("weighted_nll", -(weight * cut * logps).sum(), "sequence"),),
            (mean("weight", cut, weight), mean("weight_cut", (cut < importance).to(cut.dtype), weight)),
        )

    def importance(self, found: Responses, tau: Tensor | float) -> Tensor:
        """[n] e^{(r - b)/tau}, without gradient."""
        advantage = found.reward
        if self.baseline == "mean":
            found.refuse_singles(self)
            advantage = advantage - found.mean(advantage)
        importance = (advantage / tau).exp().detach()
        if self.largest is None and bool(importance.isinf().any()):
            raise InputError(
                f"ExponentialWeight: e^((r - b)/tau) overflows at r - b = {float(advantage.max()):g} and "
                f"tau = {float(tau):g}; set baseline=mean, `largest`, or a larger tau"
            )
        return importance
