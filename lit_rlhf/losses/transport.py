"""AOT: alignment by optimal transport, which compares sorted samples of the whole optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_rlhf.functional.udrra import over_completions
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import completion_rewards, positive, temperature
from lit_rlhf.losses.metrics import of_pairs
from lit_rlhf.types import Evidence, Observation, PreferenceBatch, Unit


@dataclass(frozen=True)
class AOT(LossHead):
    """L = sum_i -log sigma(a_(i) - b_(i)) with a and b sorted over the whole optimizer step: a dominates b stochastically.

    Paired: a are tau * log pi(y_w)/pi(y_l) and b are tau * log u(y_w)/u(y_l) (0 without a reference). Unpaired: a and b are
    the implicit rewards of chosen and of rejected ends. Pairs of weight 0 take no place in the order.
    See "Distributional Preference Alignment of LLMs via Optimal Transport" by Melnyk et al. (https://arxiv.org/abs/2406.05882).

    Args:
        tau: temperature.
        paired: whether margins of pairs are compared, or ends apart from their pairs.
        label_smoothing: eps of (1 - eps) l(m) + eps l(-m).
    """

    tau: float = 0.1
    paired: bool = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        positive(self.tau, self)

    @property
    def family(self) -> str:
        return "PRA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "chosen"})

    @property
    def unit(self) -> Unit:
        return "pair"

    @property
    def observes(self) -> int:
        return 1

    def observe(self, evidence: Evidence, batch: PreferenceBatch) -> tuple[Observation, ...]:
        return (Observation(torch.stack(self._samples(evidence, batch), dim=1).detach(), batch.pair_weight),)

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        (seen,) = self.observe(evidence, batch) if evidence.observed is None else evidence.observed
        weight, mine = batch.pair_weight, slice(seen.start, seen.start + len(batch.chosen))
        above, below = self._samples(evidence, batch)
        of_above, of_below = _partners(seen)
        losses = self._loss(above - of_above[mine])
        if not self.paired:  # b has a gradient too: each end meets its partner, and the value is counted once
            other = self._loss(of_below[mine] - below)
            losses = losses + other - (losses + other).detach() / 2
        rewards = completion_rewards(evidence, batch, temperature(evidence, self.tau))
        metrics = of_pairs(rewards[batch.chosen], rewards[batch.rejected], batch.probability, weight)
        return LossOutput((Term("aot", (weight * losses).sum(), "pair"),), metrics)

    def _samples(self, evidence: Evidence, batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
        """a and b [E]."""
        tau = temperature(evidence, self.tau)
        if not self.paired:
            rewards = completion_rewards(evidence, batch, tau)
            return rewards[batch.chosen], rewards[batch.rejected]
        policy, reference = self._margin(evidence.policy.values, batch), torch.zeros_like(batch.pair_weight)
        if evidence.reference is not None:
            reference = self._margin(evidence.reference, batch)
        return tau * policy, tau * reference

    @staticmethod
    def _margin(values: Tensor, batch: PreferenceBatch) -> Tensor:
        sequences = batch.sequences
        sums = over_completions(values, sequences.token_weight.to(values.dtype), sequences.completion_lengths, "sum")
        return sums[batch.chosen] - sums[batch.rejected]

    def _loss(self, margin: Tensor) -> Tensor:
        return -(1 - self.label_smoothing) * logsigmoid(margin) - self.label_smoothing * logsigmoid(-margin)


def _partners(seen: Observation) -> tuple[Tensor, Tensor]:
    """[n] for every a the b of its rank, and for every b the a of its rank, among rows that count."""
    counted = (seen.weight > 0).nonzero()[:, 0]
    above, below = seen.values[counted].unbind(1)
    of_above, of_below = torch.zeros_like(seen.values[:, 0]), torch.zeros_like(seen.values[:, 0])
    order_above, order_below = above.argsort(stable=True), below.argsort(stable=True)
    of_above[counted[order_above]] = below[order_below]
    of_below[counted[order_below]] = above[order_above]
    return of_above, of_below
