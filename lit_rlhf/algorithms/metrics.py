"""Metrics of validation: torchmetrics with `update(evidence, batch)`, exact over ranks.

States are sums, or rows gathered over ranks with whatever sizes they have: the size of the last batch changes nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

from lit_rlhf.losses.evidence import Reduce, completion_rewards, temperature
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, ScoredBatch, every_pair


def sequence_reward(evidence: Evidence, batch: Batch, tau: float = 1.0, reduce: Reduce = "sum") -> Tensor:
    """[S] the score of a reward model, or tau * sum_t log(pi/u) (its mean over tokens with `reduce="mean"`).

    Without a reference u = 1; a learned temperature takes the place of `tau`.
    """
    if evidence.score is not None:
        return evidence.score
    return completion_rewards(evidence, batch, temperature(evidence, tau), reduce)


class RewardMetric(Metric):
    """A metric of the reward that the trained model implies, or gives, to sequences. `update` sees every micro-batch.

    `compute` gives None where the data have nothing to measure.

    Args:
        tau: the loss's temperature, where the reward is tau * log(pi/u).
        reduce: whether log-ratios are summed or averaged over the tokens of a completion.
        prior: the reference is hidden, as `Prior(head)` hides it from its head.
    """

    full_state_update = False
    name: str

    def __init__(self, tau: float = 1.0, reduce: Reduce = "sum", prior: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tau, self.reduce, self.prior = tau, reduce, prior

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """A rank without a batch takes part with no rows: it would otherwise gather less often than the others."""
        for state in self._defaults:
            if getattr(self, state) == []:
                getattr(self, state).append(torch.zeros(0, dtype=torch.float64, device=self.device))
        super().sync(*args, **kwargs)

    def reward(self, evidence: Evidence, batch: Batch) -> Tensor:
        """[S] in double precision."""
        seen = dataclasses.replace(evidence, reference=None) if self.prior else evidence
        return sequence_reward(seen, batch, self.tau, self.reduce).detach().double()

    def margins(self, evidence: Evidence, batch: Batch) -> tuple[PreferenceBatch, Tensor]:
        """The pairs of the batch (of scored responses: every pair of a prompt) and their reward margins [E]."""
        pairs = batch if isinstance(batch, PreferenceBatch) else every_pair(batch.sequences, batch.reward, batch.weight)
        reward = self.reward(evidence, batch)
        return pairs, reward[pairs.chosen] - reward[pairs.rejected]


class PreferenceAccuracy(RewardMetric):
    """Weighted share of pairs whose preferred end has the higher reward; equal rewards count one half.

    Pairs with probability 1/2 have no preferred end and do not count.
    """

    name = "preference_accuracy"
    higher_is_better = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for state in ("right", "total"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, evidence: Evidence, batch: Batch) -> None:
        pairs, margin = self.margins(evidence, batch)
        preferred = torch.sign(pairs.probability.double() - 0.5)
        weight = pairs.pair_weight.double() * preferred.abs()
        self.right = self.right + (weight * (1 + torch.sign(margin) * preferred) / 2).sum()
        self.total = self.total + weight.sum()

    def compute(self) -> Tensor | None:
        return self.right / self.total if self.total else None


class PreferenceCalibration(RewardMetric):
    """Expected calibration error of sigma(margin) as the probability of being preferred, soft labels included.

    sum_b n_b/n |mean_b(predicted) - mean_b(label)| over equal bins of the predicted probability. Every pair counts in
    both directions, because which end is called chosen says nothing about the other.

    See "On Calibration of Modern Neural Networks" by Guo et al. (https://arxiv.org/abs/1706.04599).
    """

    name = "preference_calibration"
    higher_is_better = False

    def __init__(self, *args: Any, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for state in ("weight", "predicted", "label"):
            self.add_state(state, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, evidence: Evidence, batch: Batch) -> None:
        pairs, margin = self.margins(evidence, batch)
        predicted = torch.sigmoid(torch.cat([margin, -margin]))
        label = pairs.probability.double()
        label, weight = torch.cat([label, 1 - label]), pairs.pair_weight.double().repeat(2)
        bins = len(self.weight)
        place = (predicted * bins).long().clamp_max(bins - 1)
        self.weight = self.weight.index_add(0, place, weight)
        self.predicted = self.predicted.index_add(0, place, weight * predicted)
        self.label = self.label.index_add(0, place, weight * label)

    def compute(self) -> Tensor | None:
        total = self.weight.sum()
        return (self.predicted - self.label).abs().sum() / total if total else None


class ResidualRMS(RewardMetric):
    """Root mean square of h - (r - r'), or of h - logit p where only a soft label is known, over pairs, in nats.

    h is the margin; at the target pi^tau of the data the residual is 0. It is no KL: pairs are weighed by the data, not
    by the policy. Pairs with a label of 0 or 1 and no reward gap have no residual.
    """

    name = "udrra/residual_rms"
    higher_is_better = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for state in ("squares", "total"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, evidence: Evidence, batch: Batch) -> None:
        pairs, margin = self.margins(evidence, batch)
        target = torch.logit(pairs.probability.double()) if pairs.reward_gap is None else pairs.reward_gap.double()
        weight = pairs.pair_weight.double() * target.isfinite()
        self.squares = self.squares + (weight * (margin - target.nan_to_num(0.0, 0.0, 0.0)).square()).sum()
        self.total = self.total + weight.sum()

    def compute(self) -> Tensor | None:
        return (self.squares / self.total).sqrt() if self.total else None


class RewardAUROC(RewardMetric):
    """Probability that a good sequence has a higher reward than a bad one, over all prompts together.

    Good and bad are the preferred and the other end of a pair, or the labels 1 and 0. Weights are not used.
    """

    name = "reward_auroc"
    higher_is_better = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for state in ("rewards", "labels"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, evidence: Evidence, batch: Batch) -> None:
        if isinstance(batch, ScoredBatch) and bool(((batch.reward == 0) | (batch.reward == 1)).all()):
            reward, label = self.reward(evidence, batch), batch.reward.double()
        else:
            pairs, _ = self.margins(evidence, batch)
            reward = self.reward(evidence, batch)[torch.cat([pairs.chosen, pairs.rejected])]
            label = torch.cat([pairs.probability > 0.5, pairs.probability < 0.5]).double()
            decided = torch.cat([pairs.probability != 0.5] * 2)
            reward, label = reward[decided], label[decided]
        self.rewards.append(reward)
        self.labels.append(label)

    def compute(self) -> Tensor | None:
        rewards, labels = _rows(self.rewards), _rows(self.labels)
        if not len(labels) or bool((labels == labels[0]).all()):
            return None
        return binary_auroc(_ranks(rewards), labels.long())


class Distributions(RewardMetric):
    """Lengths, rewards and margins of the validation data as they are: histograms, not numbers."""

    name = "distribution"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for state in ("lengths", "rewards", "reward_margins"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, evidence: Evidence, batch: Batch) -> None:
        self.lengths.append(batch.sequences.completion_lengths.double())
        self.rewards.append(self.reward(evidence, batch))
        if isinstance(batch, PreferenceBatch):
            self.reward_margins.append(self.margins(evidence, batch)[1])

    def compute(self) -> dict[str, Tensor]:
        names = {"length": "lengths", "reward": "rewards", "margin": "reward_margins"}
        return {name: rows for name, state in names.items() if len(rows := _rows(getattr(self, state)))}


class Perplexity(Metric):
    """exp of the mean negative log-probability of the trained tokens: exp(-sum_t w_t log pi_t / sum_t w_t)."""

    name = "perplexity"
    full_state_update = False
    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for state in ("nats", "total"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, evidence: Evidence, batch: Batch) -> None:
        weight = batch.token_weight.double()
        self.nats = self.nats - (weight * evidence.policy.values.detach()).sum()
        self.total = self.total + weight.sum()

    def compute(self) -> Tensor:
        return torch.exp(self.nats / self.total)


def metric_name(metric: Metric) -> str:
    """`metric.name`, or the class's name in snake case."""
    spelt = type(metric).__name__
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in spelt)
    return getattr(metric, "name", snake.lstrip("_"))


def _rows(state: list[Tensor] | Tensor) -> Tensor:
    """A gathered state, or one of this rank alone."""
    return (torch.cat(state) if state else torch.zeros(0)) if isinstance(state, list) else state


def _ranks(values: Tensor) -> Tensor:
    """Numbers in [0, 1], in the same order and with the same ties: others would go through a sigmoid, and saturate."""
    place = torch.unique(values, return_inverse=True)[1].double()
    return place / place.max().clamp_min(1.0)
