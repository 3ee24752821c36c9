"""RA, reward approximation: the implicit reward is fitted to the reward, up to the log-partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import udrra
from lit_rlhf.functional.segment import mean_by
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import (
    Reduce,
    Responses,
    completion_logps,
    one_of,
    positive,
    required,
    responses,
    temperature,
)
from lit_rlhf.losses.metrics import mean, of_rewards
from lit_rlhf.types import Evidence, Rollout, ScoredBatch, TokenLogps, Unit

Partition = Literal["exact", "learned", "group", "mean_reward", "quantile", "half", "none"]
GROUPED = frozenset({"exact", "group", "mean_reward", "quantile"})
SAMPLED_FROM_REFERENCE = frozenset({"group", "quantile"})
"""Where c is an expectation under u, which must be a law."""


@dataclass(frozen=True)
class RA(LossHead):
    """L = sum_S w (tau log(pi/u) + c - r)^2 / 2, with c in the place of V* = tau log Z (theory: eq. 6).

    Only c = V* keeps the target pi^tau off policy; on policy (gradient through log pi alone) any c does.

    Args:
        tau: temperature.
        partition: where c comes from.
            `exact`: tau log sum_y u(y) e^{r/tau}, the prompt's responses in the batch being all there are;
            `learned`: tau times a learned log-partition, trained by this loss too (DRO,
            https://arxiv.org/abs/2405.19107);
            `group`: tau log mean_k e^{r_k/tau} over the prompt's responses, drawn from u, which must be there;
            `mean_reward`: mean_k r_k (PMD-mean, Kimi k1.5, https://arxiv.org/abs/2501.12599);
            `quantile`: rewards become the prompt's quantiles and c is known in closed form (QRPO,
            https://arxiv.org/abs/2507.08068);
            `half`: 1/2, where the reward is the probability of beating the law that sampled (SPPO, with tau = 1/eta and
            `AgainstBehaviour`, https://arxiv.org/abs/2405.00675);
            `none`: 0 (UNA, https://arxiv.org/abs/2408.15339), right where rewards are normalised so that Z = 1.
        reduce: log-ratios of a completion are added, or averaged over its tokens.
    """

    tau: float = 0.1
    partition: Partition = "group"
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(Partition, self.partition, self, "partition")
        one_of(Reduce, self.reduce, self, "reduce")
        if self.partition == "exact" and self.reduce == "mean":
            raise InputError("RA.partition: the exact partition is that of whole completions; set reduce=sum")

    @property
    def family(self) -> str:
        return "RA"

    @property
    def needs(self) -> frozenset[str]:
        more = {"learned": {"log_partition"}} | {name: {"group"} for name in GROUPED}
        law = {"reference"} if self.partition in SAMPLED_FROM_REFERENCE else set()
        return frozenset({"policy", "reward"} | more.get(self.partition, set()) | law)

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch | Rollout) -> LossOutput:
        tau = temperature(evidence, self.tau)
        found = responses(evidence, batch, tau, self.reduce)
        if self.partition in GROUPED:
            found.refuse_singles(self)
        reward = udrra.quantile_rewards(found.reward, found.prompt) if self.partition == "quantile" else found.reward
        constant = self.constant(evidence, batch, found, tau)[found.prompt]
        error, weight = found.implicit + constant - reward, found.weight
        return LossOutput(
            (Term("ra", (weight * error.square()).sum() / 2, "sequence"),),
            (*of_rewards(found.implicit, reward, weight), mean("partition", constant, weight)),
        )

    def constant(
        self, evidence: Evidence, batch: ScoredBatch | Rollout, found: Responses, tau: Tensor | float
    ) -> Tensor:
        """[N] c."""
        reward, prompt, prompts = found.reward, found.prompt, found.prompts
        if self.partition in SAMPLED_FROM_REFERENCE:
            required(evidence, "reference")
        if self.partition == "learned":
            return tau * required(evidence, "log_partition")
        if self.partition == "exact":
            return udrra.enumerated_partition(self._log_base(evidence, batch)[found.rows], reward, prompt, prompts, tau)
        if self.partition == "group":
            return udrra.sampled_partition(reward, prompt, prompts, tau)
        if self.partition == "mean_reward":
            return mean_by(reward, prompt, prompts)
        known = {"quantile": udrra.quantile_partition(tau), "half": 0.5, "none": 0.0}
        return reward.new_zeros(prompts) + known[self.partition]

    def _log_base(self, evidence: Evidence, batch: ScoredBatch | Rollout) -> Tensor:
        """[S] log u of whole completions."""
        if evidence.reference is None:
            return torch.zeros_like(batch.reward)
        return completion_logps(Evidence(TokenLogps(evidence.reference)), batch)
