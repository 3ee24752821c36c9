"""A head of a dozen lines for tests of callbacks: what it learns does not matter."""

from dataclasses import dataclass

import torch

from lit_rlhf.losses.base import LossHead, LossOutput, Metric, Term


@dataclass(frozen=True)
class Pairwise(LossHead):
    """-log sigma(tau * difference of log-probs), with its accuracy."""

    tau: float = 1.0
    family = "PRA"
    needs = frozenset({"policy", "chosen"})
    unit = "pair"

    def __call__(self, evidence, batch):
        owner = torch.repeat_interleave(batch.sequences.completion_lengths)
        values = evidence.policy.values
        sums = values.new_zeros(len(batch.sequences.completion_lengths)).index_add(0, owner, values)
        margin = self.tau * (sums[batch.chosen] - sums[batch.rejected])
        loss = -(batch.pair_weight * torch.nn.functional.logsigmoid(margin)).sum()
        right = (batch.pair_weight * (margin > 0)).sum()
        return LossOutput((Term("pairwise", loss, "pair"),), (Metric("accuracy", right, batch.pair_weight.sum()),))
