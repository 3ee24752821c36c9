"""What a composition learns besides its models, and how it reaches the head: a learned temperature, a log-partition."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from lit_rlhf.components.language_model import LanguageModel, as_model
from lit_rlhf.types import Sequences


class Learned(nn.Module, ABC):
    """A trained component that fills one field of the evidence."""

    fills: ClassVar[str]
    """The field of `Evidence`."""
    lr: float | None

    def build(self) -> None:
        """Loads what it has to load, once."""

    @abstractmethod
    def forward(self, sequences: Sequences) -> Tensor:
        """The value of the field for these sequences."""


class LearnedTemperature(Learned):
    """tau = exp(a) with a learned.

    Args:
        initial: tau at the start.
        lr: learning rate of this part; the optimizer's own when None.
    """

    fills: ClassVar[str] = "tau"

    def __init__(self, initial: float = 1.0, lr: float | None = None) -> None:
        super().__init__()
        if initial <= 0:
            raise ValueError(f"LearnedTemperature.initial is {initial}; a temperature is positive")
        self.log_tau, self.lr = nn.Parameter(torch.tensor(math.log(initial))), lr

    def forward(self, sequences: Sequences) -> Tensor:
        """[]"""
        return self.log_tau.exp()


class LogPartition(Learned):
    """log Z(x), a linear function of a language model's state at the last prompt token; 0 at the start.

    Args:
        model: the trunk, trained too; a source or a language model.
        lr: learning rate of this part; the optimizer's own when None.
    """

    fills: ClassVar[str] = "log_partition"

    def __init__(self, model: LanguageModel | str, lr: float | None = None) -> None:
        super().__init__()
        self.model, self.lr = as_model(model), lr
        self.head: nn.Linear | None = None

    def build(self) -> None:
        self.model.build()
        if self.head is None:
            self.head = scalar_head(self.model)

    def forward(self, sequences: Sequences) -> Tensor:
        """[N] in nats."""
        return self.head(self.model.prompt_hidden(sequences))[:, 0]


def scalar_head(model: LanguageModel, bias: bool = True) -> nn.Linear:
    """A linear map from states to one number that is 0 at the start."""
    weight = next(model.net.parameters())
    head = nn.Linear(model.width, 1, bias=bias, dtype=weight.dtype, device=weight.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head
