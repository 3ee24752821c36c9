"""What a composition learns besides its models, and how it reaches the head: a learned temperature, a log-partition."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from lit_rlhf.components.heads import ScalarHead
from lit_rlhf.components.language_model import LanguageModel, as_trained
from lit_rlhf.errors import InputError
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
            raise InputError(f"LearnedTemperature.initial is {initial}; a temperature is positive")
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
        self.model, self.lr = as_trained(model), lr
        self.head: ScalarHead | None = None

    def build(self) -> None:
        """Loads the weights, once."""
        self.model.build(head=False)
        if self.head is None:
            self.head = ScalarHead(self.model.net, self.model.width)

    def forward(self, sequences: Sequences) -> Tensor:
        """[N] in nats."""
        return self.head(self.model.prompt_hidden(sequences))
