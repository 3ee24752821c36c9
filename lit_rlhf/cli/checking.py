"""What can be known to be wrong before any weight is read, beyond the configuration itself."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import nn

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.composition import refuse_strangers
from lit_rlhf.callbacks.names import check_monitors
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.data.planner import PlannedData
from lit_rlhf.errors import InputError


def check_parts(module: LightningModule, trainer: Trainer) -> None:
    """Raises: InputError: a watched metric that the run does not have, settings that the optimizer refuses, or parts that
    do not go together."""
    check_monitors(trainer, module)
    if isinstance(module, Algorithm):
        check_optimizer(module)
        refuse_strangers(module)


def check_optimizer(algorithm: Algorithm) -> None:
    """Makes the optimizer and its schedule for a weight of one number.

    Raises:
        InputError: with the optimizer's own sentence.
    """
    try:
        algorithm.optimizer([{"params": [nn.Parameter(torch.zeros(1))], "name": "check"}])
    except (ValueError, TypeError) as error:
        raise InputError(f"model.optimizer: {error}") from error


def check_data(module: LightningModule, data: LightningDataModule | None) -> None:
    """Reads the rows of `fit` and the tokenizers of all models.

    Raises:
        InputError: naming the file, the row, the column or the model.
    """
    if isinstance(module, Algorithm) and isinstance(data, PlannedData):
        for model in _models(module):
            model.tokenizer  # noqa: B018
        module.check(data)
        print(data.report.text())


def _models(algorithm: Algorithm) -> list[LanguageModel]:
    holders: list[Any] = [part for _, part in algorithm.parts] + [algorithm.reference]
    models = [getattr(holder, "model", None) for holder in holders]
    return [model for model in models if isinstance(model, LanguageModel)]
