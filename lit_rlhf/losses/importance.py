"""Rollouts of an older policy: what they count where another one is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import policy, segment
from lit_rlhf.losses.base import LossHead, LossOutput, Wrapper
from lit_rlhf.losses.evidence import acting_logps, behaviour_logps, one_of, positive, required
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Batch, Evidence, Observation, Rollout

Of = Literal["sequence", "token"]


@dataclass(frozen=True)
class TruncatedImportance(Wrapper):
    """A head whose sequences (or the advantages of tokens) weigh min(pi/pi_old, largest), without gradient.

    For replayed rollouts, around a head that has no ratio of its own: the policy gradient and the KL penalty of an
    older policy's samples become those of pi, exactly where nothing is cut (theory: 2.3). Counts stay those of the
    rollouts, and the head's metrics are means under the weights. Metrics: `importance`, and the share `importance_cut`.
    See "IMPALA" by Espeholt et al. (https://arxiv.org/abs/1802.01561).

    Args:
        head: the head that is weighed.
        largest: the greatest weight; infinity is plain importance sampling.
        of: pi(y)/pi_old(y) of whole sequences, which is exact; or of each token alone, which has less variance, ignores
            what came before it, and is for heads that read advantages.

    Raises:
        InputError: a head that this cannot weigh.
    """

    largest: float = 2.0
    of: Of = "sequence"

    def __post_init__(self) -> None:
        positive(self.largest, self, "largest")
        one_of(Of, self.of, self, "of")
        name = type(self.head).__name__
        if self.head.needs & {"chosen", "reward_gap"}:
            raise InputError(
                f"TruncatedImportance weighs sequences, and {name} compares pairs, whose law is free; leave it out"
            )
        if self.of == "token" and "advantages" not in self.head.needs:
            raise InputError(f"TruncatedImportance.of=token weighs advantages, and {name} reads none; set of=sequence")

    @property
    def needs(self) -> frozenset[str]:
        return self.head.needs | {"policy", "behaviour"}

    def weighed(self, evidence: Evidence, batch: Batch) -> tuple[Rollout, Tensor]:
        """The rollout with these weights, and the ratios [S] or [T] before they were cut."""
        behaviour = behaviour_logps(batch, self)
        log_ratio = (acting_logps(evidence, batch) - behaviour).detach()
        if self.of == "token":
            advantages = policy.truncated_importance(log_ratio, self.largest) * required(batch, "advantages")
            return dataclasses.replace(batch, advantages=advantages), log_ratio.exp()
        weight, lengths = batch.sequences.token_weight.to(log_ratio.dtype), batch.sequences.completion_lengths
        whole = segment.segment_sum(weight * log_ratio, lengths)
        least = torch.finfo(whole.dtype).tiny  # a weight of 0 would take the sequence out of its group
        importance = policy.truncated_importance(whole, self.largest).clamp_min(least)
        return dataclasses.replace(batch, weight=batch.sequence_weight * importance), whole.exp()

    def observe(self, evidence: Evidence, batch: Batch) -> tuple[Observation, ...]:
        return self.head.observe(evidence, self.weighed(evidence, batch)[0])

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        weighed, ratio = self.weighed(evidence, batch)
        output = self.head(evidence, weighed)
        weight = batch.token_weight if self.of == "token" else batch.sequence_weight
        own = (
            mean("importance", ratio.clamp_max(self.largest), weight),
            mean("importance_cut", (ratio > self.largest).to(ratio.dtype), weight),
        )
        return LossOutput(output.terms, (*output.metrics, *own))
