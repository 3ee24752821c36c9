"""Training a reward model: BradleyTerry on pairs, RewardRegression on scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from lightning.pytorch.cli import OptimizerCallable
from torchmetrics import Metric

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.schedules import Schedule
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.reward import BradleyTerryLoss, ScoreRegression
from lit_rlhf.types import Batch, Evidence


class RewardAlgorithm(Algorithm):
    """Trains a `RewardModel`; its head reads `Evidence.score`. The arguments are those of `Algorithm`."""

    trains: ClassVar[str] = "reward"

    def __init__(
        self,
        reward: RewardModel,
        loss: LossHead,
        optimizer: OptimizerCallable | None = None,
        schedule: Schedule | None = None,
        max_grad_norm: float | None = 1.0,
        metrics: Sequence[Metric] | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
    ) -> None:
        super().__init__(
            reward, loss, optimizer=optimizer, schedule=schedule, max_grad_norm=max_grad_norm, metrics=metrics,
            on_nonfinite=on_nonfinite,
        )

    def evidence(self, batch: Batch) -> Evidence:
        return Evidence(score=self.reward.score(batch.sequences))


class BradleyTerry(RewardAlgorithm):
    """PRA of a reward model, pairwise.

    L = -sum_E [p log sigma(s_w - s_l) + (1 - p) log sigma(s_l - s_w)], s the score and p the label, 1 where it is hard.

    Target: r up to a constant of each prompt, where labels are Bradley-Terry and pairs connect the responses.
    See "Training language models to follow instructions with human feedback" by Ouyang et al.
    (https://arxiv.org/abs/2203.02155), equation 1.
    The default head is `BradleyTerryLoss()`.
    """

    def __init__(self, reward: RewardModel, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(reward=reward, loss=loss or BradleyTerryLoss(), **kwargs)


class RewardRegression(RewardAlgorithm):
    """RA of a reward model, pointwise.

    L = sum_S (s - r)^2 / 2, s the score and r the reward of the data.

    Target: the mean of r given prompt and response.
    The default head is `ScoreRegression()`.
    """

    def __init__(self, reward: RewardModel, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(reward=reward, loss=loss or ScoreRegression(), **kwargs)
