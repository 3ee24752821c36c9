"""RDA, reward-difference approximation: the log-partition cancels between responses to one prompt."""

from __future__ import annotations

from dataclasses import dataclass

from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import (
    Reduce,
    completion_rewards,
    ends,
    one_of,
    positive,
    responses,
    reward_gaps,
    temperature,
)
from lit_rlhf.losses.metrics import of_pairs, of_rewards
from lit_rlhf.types import Evidence, PreferenceBatch, Rollout, ScoredBatch, Unit


@dataclass(frozen=True)
class RDA(LossHead):
    """L = sum_E w (h - dr)^2 / 2, with h the difference of the ends' implicit rewards and dr that of rewards.

    Theory: eq. 7.
    The minimiser is pi^tau on any connected pair graph, whatever the pair law. See "REBEL" by Gao et al.
    (https://arxiv.org/abs/2404.16767) for the loss on samples.

    Args:
        tau: temperature.
        reduce: log-ratios of a completion are added, or averaged over its tokens.
    """

    tau: float = 0.1
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(Reduce, self.reduce, self, "reduce")

    @property
    def family(self) -> str:
        return "RDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "chosen", "reward_gap"})

    @property
    def unit(self) -> Unit:
        return "pair"

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        rewards = completion_rewards(evidence, batch, temperature(evidence, self.tau), self.reduce)
        (chosen, rejected), weight = ends(rewards, batch), batch.pair_weight
        losses = (chosen - rejected - reward_gaps(batch)).square() / 2
        metrics = of_pairs(chosen, rejected, batch.probability, weight)
        return LossOutput((Term("rda", (weight * losses).sum(), "pair"),), metrics)


@dataclass(frozen=True)
class GroupVariance(LossHead):
    """L = K * 1/(2 (K-1)) sum_k (g_k - mean g)^2 per prompt, g = tau log(pi/u) - r: half the sample variance (GVPO).

    The factor K makes dividing by sequences a mean over prompts; where K differs, each prompt counts K times. The
    gradient on a group of samples is tau times that of leave-one-out REINFORCE with the KL in the reward (theory:
    eq. 10). See "GVPO: Group Variance Policy Optimization" by Zhang et al. (https://arxiv.org/abs/2504.19599).

    Args:
        tau: temperature.
        reduce: log-ratios of a completion are added, or averaged over its tokens.
    """

    tau: float = 0.1
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        positive(self.tau, self)
        one_of(Reduce, self.reduce, self, "reduce")

    @property
    def family(self) -> str:
        return "RDA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reward", "group"})

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch | Rollout) -> LossOutput:
        found = responses(evidence, batch, temperature(evidence, self.tau), self.reduce)
        found.refuse_singles(self)
        error, size, weight = found.implicit - found.reward, found.size, found.weight
        losses = (error - found.mean(error)).square() * size / (2 * (size - 1))
        metrics = of_rewards(found.implicit, found.reward, weight)
        return LossOutput((Term("rda", (weight * losses).sum(), "sequence"),), metrics)
