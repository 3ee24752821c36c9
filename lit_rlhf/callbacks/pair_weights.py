"""Margins of the training pairs under the present policy, for a pair design that follows it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_rlhf.callbacks.random_state import RandomState
from lit_rlhf.components.modes import evaluating
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead, Sum, Wrapper
from lit_rlhf.losses.evidence import completion_rewards, ends, required, reward_gaps, temperature
from lit_rlhf.losses.pra import PRA
from lit_rlhf.ranks import sum_over_ranks
from lit_rlhf.types import Evidence, PreferenceBatch


class PairWeights(Callback):
    """Before every epoch, tells the data the margin of each training pair; nothing for a design that does not ask.

    The margin is h = tau log[pi(y) u(y') / (pi(y') u(y))] of chosen y and rejected y', under the policy and reference as they
    stand then, without dropout; of a reward model, the difference of its scores. One pass over the training pairs
    without gradient. The data module keeps the weights that follow, and puts them into checkpoints.
    """

    writes_margins = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and getattr(trainer.datamodule, "follows_policy", False) and not has_margin(pl_module.loss):
            raise InputError(
                f"data.design: {type(pl_module.loss).__name__} has no margin tau log(pi/u) that pairs could be weighed by; "
                "choose inverse_variance or uniform, or a loss on pairs with a temperature"
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not getattr(trainer.datamodule, "follows_policy", False):
            return
        random = RandomState.now()
        with evaluating(pl_module), trainer.precision_plugin.forward_context():
            margin = pair_margins(pl_module, trainer.datamodule)
        random.restore()
        trainer.datamodule.follow(margin)


@torch.no_grad()
def pair_margins(algorithm: Any, data: Any) -> np.ndarray:
    """[E] the margin of every training pair in nats, in the order of the data, the same on every rank.

    Args:
        algorithm: gives the evidence and the loss.
        data: gives the pairs (`PlannedData.pair_pass`).
    """
    found = torch.zeros(data.training_pairs, device=algorithm.device)
    for batch, numbers in data.pair_pass():
        batch, numbers = batch.to(algorithm.device), numbers.to(algorithm.device)
        own = margins(algorithm.loss, algorithm.evidence(batch), batch)
        counted = numbers >= 0
        found[numbers[counted]] = own[counted].float()
    return sum_over_ranks(found).cpu().double().numpy()


def has_margin(head: LossHead) -> bool:
    """Whether `margins` has an answer."""
    if isinstance(head, Sum):
        return any(map(has_margin, head.terms))
    if isinstance(head, Wrapper):
        return has_margin(head.head)
    tempered = "tau" in {field.name for field in dataclasses.fields(head)}
    return "chosen" in head.needs and ("score" in head.needs or tempered and "policy" in head.needs)


def margins(head: LossHead, evidence: Evidence, batch: PreferenceBatch) -> Tensor:
    """[E] the margin of the first head that has one."""
    if isinstance(head, Sum):
        return margins(next(filter(has_margin, head.terms)), evidence, batch)
    if isinstance(head, Wrapper):
        return margins(head.head, head.seen(evidence, batch), batch)
    if "score" in head.needs:
        chosen, rejected = ends(required(evidence, "score"), batch)
        return chosen - rejected
    tau = temperature(evidence, head.tau)
    if isinstance(head, PRA):
        chosen, rejected = head.ends(evidence, batch, tau)
        return chosen - rejected - (head.offset * reward_gaps(batch) if head.offset else 0.0)
    chosen, rejected = ends(completion_rewards(evidence, batch, tau, getattr(head, "reduce", "sum")), batch)
    return chosen - rejected
