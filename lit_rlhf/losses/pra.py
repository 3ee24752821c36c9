"""PRA, preference approximation: only the probability of being preferred is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import counted, owner, segment_sum
from lit_rlhf.functional.udrra import over_completions
from lit_rlhf.losses.base import LossHead, LossOutput, Term, Wrapper
from lit_rlhf.losses.divergences import Divergence
from lit_rlhf.losses.evidence import (
    Reduce,
    completion_logps,
    completion_rewards,
    ends,
    one_of,
    policy_logps,
    policy_statistic,
    positive,
    rate,
    reward_gaps,
    temperature,
    token_rewards,
)
from lit_rlhf.losses.links import Link, Logistic
from lit_rlhf.losses.metrics import of_pairs
from lit_rlhf.types import Evidence, PreferenceBatch, TokenLogps, Unit, segment_indices


@dataclass(frozen=True)
class PRA(LossHead):
    """L = sum_E w [p l(a, b) + (1 - p) l(b, a)], with a, b = tau log(pi/u) of the pair's ends and p the label.

    With the logistic link and true preference probabilities the minimiser is pi^tau = u e^{r/tau} / Z wherever the pair
    graph is connected (theory: eq. 8); with sampled hard labels it is DPO.

    Args:
        tau: temperature.
        link: l(a, b); logistic when None.
        reduce: log-ratios of a completion are added, or averaged over its tokens (SimPO, length-normalised DPO, IPO).
        label_smoothing: p becomes (1 - 2 eps) p + eps (cDPO, https://ericmitchell.ai/cdpo.pdf).
        flip_rate: p becomes (p - eps) / (1 - 2 eps): unbiased where labels are flipped at this rate (robust DPO,
            https://arxiv.org/abs/2403.00409). Of a single pair the loss then has no lower bound.
        offset: a - b becomes a - b - offset * reward_gap (ODPO, https://arxiv.org/abs/2402.10571, with a linear
            offset).
        divergence: what takes the place of log(pi/u); reverse KL when None.

    Raises:
        InputError: tau is not positive, a rate is outside [0, 1/2), or an option has no meaning for the link.
    """

    tau: float = 0.1
    link: Link | None = None
    reduce: Reduce = "sum"
    label_smoothing: float = 0.0
    flip_rate: float = 0.0
    offset: float = 0.0
    divergence: Divergence | None = None

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(Reduce, self.reduce, self, "reduce")
        for name in ("label_smoothing", "flip_rate"):
            rate(getattr(self, name), self, name)
        link, name = self.link or Logistic(), type(self).__name__
        if self.flip_rate and not link.affine:
            raise InputError(f"{name}.flip_rate: {type(link).__name__} is not affine in the label; use label_smoothing")
        if self.offset and not link.of_difference:
            raise InputError(f"{name}.offset: {type(link).__name__} is no function of a margin; use Logistic")

    @property
    def family(self) -> str:
        return "PRA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "chosen"} | ({"reward_gap"} if self.offset else set()))

    @property
    def unit(self) -> Unit:
        return "pair"

    def ends(self, evidence: Evidence, batch: PreferenceBatch, tau: Tensor | float) -> tuple[Tensor, Tensor]:
        """[E], [E] the implicit rewards of the chosen and the rejected ends."""
        rewards = self.scores(completion_rewards(evidence, batch, 1.0, self.reduce), tau)
        return ends(rewards, batch)

    def scores(self, log_ratios: Tensor, tau: Tensor | float) -> Tensor:
        """The implicit rewards, of the shape of the completions' log-ratios: tau * f'(pi/u)."""
        return tau * (log_ratios if self.divergence is None else self.divergence(log_ratios))

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        tau, weight = temperature(evidence, self.tau), batch.pair_weight
        chosen, rejected = self.ends(evidence, batch, tau)
        shifted = chosen - self.offset * reward_gaps(batch) if self.offset else chosen
        labels = torch.where(weight == 0, 0.5, self.labels(batch.probability))
        losses = (self.link or Logistic())(shifted, rejected, labels, tau)
        metrics = of_pairs(chosen, rejected, batch.probability, weight)
        return LossOutput((Term("pra", (weight * losses).sum(), "pair"),), metrics)

    def labels(self, probability: Tensor) -> Tensor:
        """[E] the label after smoothing and the noise model."""
        smoothed = (1 - 2 * self.label_smoothing) * probability + self.label_smoothing
        return (smoothed - self.flip_rate) / (1 - 2 * self.flip_rate)


@dataclass(frozen=True)
class LengthDesensitised(PRA):
    """LD-DPO: tokens beyond the length of the shorter end count `alpha`, in both ends of a pair.

    log pi(y) becomes sum_{t <= l} log pi_t + alpha sum_{t > l} log pi_t with l = min(|y_w|, |y_l|), in trained tokens.
    See "Length Desensitization in Direct Preference Optimization" by Liu et al. (https://arxiv.org/abs/2409.06411).
    The arguments are those of `PRA`, and:

    Args:
        alpha: in [0, 1]; 1 is DPO.

    Raises:
        InputError: alpha is outside [0, 1].
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise InputError(f"LengthDesensitised.alpha is {self.alpha}; it is a weight in [0, 1]")

    def ends(self, evidence: Evidence, batch: PreferenceBatch, tau: Tensor | float) -> tuple[Tensor, Tensor]:
        sequences, tokens = batch.sequences, token_rewards(evidence, batch, 1.0)
        trained = (sequences.token_weight != 0).long()
        number = segment_sum(trained, sequences.completion_lengths)
        public = torch.minimum(number[batch.chosen], number[batch.rejected])
        rank = trained.cumsum(0) - (number.cumsum(0) - number)[owner(sequences.completion_lengths)]

        def end(which: Tensor) -> Tensor:
            lengths, of_end = sequences.completion_lengths[which], segment_indices(sequences.completion_lengths, which)
            beyond = rank[of_end] > torch.repeat_interleave(public, lengths)
            weight = (sequences.token_weight[of_end] * torch.where(beyond, self.alpha, 1.0)).to(tokens.dtype)
            return self.scores(over_completions(tokens[of_end], weight, lengths, self.reduce), tau)

        weight = batch.pair_weight
        return counted(end(batch.chosen), weight), counted(end(batch.rejected), weight)


@dataclass(frozen=True)
class PolicyWeighted(Wrapper):
    """WPO: every pair weighs w(y_w) w(y_l), w(y) = exp(mean_t log[pi(y_t) / sum_v pi(v)^2]), without gradient.

    Pairs that the present policy would hardly write count little. The paper's sampled alignment divides by
    sum_v pi(v)^2, the mean of pi(y_t) over y_t drawn from pi, so that a token of the policy's own counts 1 on average.
    See "WPO: Enhancing RLHF with Weighted Preference Optimization" by Zhou et al. (https://arxiv.org/abs/2406.11827),
    equation 2.
    """

    @property
    def needs(self) -> frozenset[str]:
        return self.head.needs | {"policy", "collision", "chosen"}

    def weighted(self, evidence: Evidence, batch: PreferenceBatch) -> PreferenceBatch:
        """The batch with these weights; what it is counted by stays as it was."""
        aligned = policy_logps(evidence, batch) - policy_statistic(evidence, batch, "collision")
        chosen, rejected = ends(completion_logps(Evidence(TokenLogps(aligned.detach())), batch, "mean"), batch)
        return dataclasses.replace(batch, weight=batch.pair_weight * torch.exp(chosen + rejected))

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        return self.head(evidence, self.weighted(evidence, batch))
