"""AOT: alignment by optimal transport, which compares sorted samples of the whole optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import completion_logps, completion_rewards, ends, positive, rate, temperature
from lit_rlhf.losses.metrics import of_pairs
from lit_rlhf.types import Evidence, Observation, PreferenceBatch, TokenLogps, Unit


@dataclass(frozen=True)
class AOT(LossHead):
    """L = sum_i -log sigma(a_(i) - b_(i)), a and b sorted over the whole optimizer step: a dominates b stochastically.

    Paired: a are tau * log pi(y_w)/pi(y_l) and b are tau * log u(y_w)/u(y_l) (0 without a reference). Unpaired: a and b
    are the implicit rewards of chosen and of rejected ends. Pairs take as much place in the order as they weigh.
    Soft labels are read by their side of 1/2 alone: the likelier end is the preferred one.
    See "Distributional Preference Alignment of LLMs via Optimal Transport" by Melnyk et al.
    (https://arxiv.org/abs/2406.05882).

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
        rate(self.label_smoothing, self, "label_smoothing")

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
        weight, (above, below) = batch.pair_weight, self._samples(evidence, batch)
        of_above, of_below, mass = coupling(seen)
        total = self._cost(above, seen.values[:, 1], of_above - seen.start, of_below, mass)
        if not self.paired:  # b has a gradient too: each end meets its partners, and the value is counted once
            other = self._cost(-below, -seen.values[:, 0], of_below - seen.start, of_above, mass)
            total = total + other - (total + other).detach() / 2
        rewards = completion_rewards(evidence, batch, temperature(evidence, self.tau))
        metrics = of_pairs(rewards[batch.chosen], rewards[batch.rejected], batch.probability, weight)
        return LossOutput((Term("aot", total, "pair"),), metrics)

    def _samples(self, evidence: Evidence, batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
        """a and b [E]."""
        tau = temperature(evidence, self.tau)
        if not self.paired:
            return self._preferred(completion_rewards(evidence, batch, tau), batch)
        above, below = self._preferred(completion_logps(evidence, batch), batch)
        policy, reference = above - below, torch.zeros_like(above)
        if evidence.reference is not None:
            above, below = self._preferred(completion_logps(Evidence(TokenLogps(evidence.reference)), batch), batch)
            reference = above - below
        return tau * policy, tau * reference

    @staticmethod
    def _preferred(values: Tensor, batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
        """[E], [E] the values [S] of the preferred ends and of the others."""
        chosen, rejected = ends(values, batch)
        kept = batch.probability >= 0.5
        return torch.where(kept, chosen, rejected), torch.where(kept, rejected, chosen)

    def _cost(self, own: Tensor, other: Tensor, of_own: Tensor, of_other: Tensor, mass: Tensor) -> Tensor:
        """[] the loss of what is coupled to the own values; indices beyond their range are of other micro-batches."""
        mine = (of_own >= 0) & (of_own < len(own))
        margin = own[of_own[mine]] - other[of_other[mine]]
        losses = -(1 - self.label_smoothing) * logsigmoid(margin) - self.label_smoothing * logsigmoid(-margin)
        return (mass[mine].to(losses.dtype) * losses).sum()


def coupling(seen: Observation) -> tuple[Tensor, Tensor, Tensor]:
    """[m], [m], [m] indices of a and of b, and the mass that passes between them: both sorted, of the rows' weights.

    The monotone (optimal) coupling of weighted samples: with rows of equal weight every a meets the b of its rank.
    """
    weight = seen.weight.double()
    orders = [values.argsort(stable=True) for values in seen.values.unbind(1)]
    reached = [weight[order].cumsum(0) for order in orders]
    ends = torch.cat(reached).sort().values
    mass = ends.diff(prepend=ends.new_zeros(1))
    middle = (ends - mass / 2)[mass > 0]
    ranks = [torch.searchsorted(sums, middle).clamp_max(len(weight) - 1) for sums in reached]
    above, below = (order[rank] for order, rank in zip(orders, ranks, strict=True))
    return above, below, mass[mass > 0]
