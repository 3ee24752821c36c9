"""References: the base measure u of the posterior form, frozen, outside every state dict and optimizer."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel, as_model
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch, Sequences


class Reference(ABC):
    """log u(y_t | x, y_<t). Not a Module, so that no frozen weight enters a checkpoint; the random state never moves."""

    mode: str
    """One word for logs."""
    equal_at_start: bool
    """Whether it must equal the policy before the first update."""

    @abstractmethod
    def build(self, actor: Actor) -> None:
        """Gets its weights; called once the actor has its own."""

    @abstractmethod
    def token_logps(self, sequences: Sequences) -> Tensor:
        """[T] in nats, without gradient."""

    def to(self, device: torch.device | str) -> None:
        """Moves the weights."""

    def precompute(self, batches: Iterable[Batch]) -> None:
        """Computes what will be asked, for references that keep it."""

    def after_update(self, actor: Actor, step: int) -> None:
        """Called after every optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; nothing for a reference that is rebuilt from its source."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


class _OwnModel(Reference):
    """A reference with weights of its own."""

    model: LanguageModel

    @torch.no_grad()
    def token_logps(self, sequences: Sequences) -> Tensor:
        return self.model.token_logps(sequences).values

    def to(self, device: torch.device | str) -> None:
        self.model.to(device)

    def _freeze(self) -> None:
        self.model.requires_grad_(False).eval()


class FrozenCopy(_OwnModel):
    """The policy as it was before the first update.

    Args:
        dtype: of the copy's weights; the actor's when None.
    """

    mode = "frozen_copy"
    equal_at_start = True

    def __init__(self, dtype: str | None = None) -> None:
        self.dtype = dtype

    def build(self, actor: Actor) -> None:
        self.model = copy.deepcopy(actor.model)
        if self.dtype is not None:
            self.model.to(getattr(torch, self.dtype))
        self._freeze()


class FromCheckpoint(_OwnModel):
    """Another model: a hub name, a folder or a run of ours.

    Args:
        model: a source or a language model.
    """

    mode = "checkpoint"
    equal_at_start = False

    def __init__(self, model: LanguageModel | str) -> None:
        self.model = as_model(model)

    def build(self, actor: Actor) -> None:
        self.model.build()
        self._freeze()


class AdapterOff(Reference):
    """The actor without its adapters: no second copy of the weights.

    Raises:
        InputError: the actor has no adapters.
    """

    mode = "adapter_off"
    equal_at_start = True

    def build(self, actor: Actor) -> None:
        if actor.model.lora is None:
            raise InputError("model.reference: AdapterOff needs an actor with adapters; set model.actor.model.lora, or use FrozenCopy")
        self._actor = actor

    @torch.no_grad()
    def token_logps(self, sequences: Sequences) -> Tensor:
        net = self._actor.model.net
        modes = [(module, module.training) for module in net.modules()]
        net.eval()
        try:
            with net.disable_adapter():
                return self._actor.model.token_logps(sequences).values
        finally:
            for module, training in modes:
                module.training = training


class EMA(FrozenCopy):
    """u <- decay * u + (1 - decay) * pi every so many updates (TR-DPO's soft update; decay 0 is its hard one).

    See "Learn Your Reference Model for Real Good Alignment" by Gorbatovski et al. (https://arxiv.org/abs/2404.09656).

    Args:
        decay: what stays of the reference.
        every: updates between two moves.
        dtype: of the copy's weights; the actor's when None.
    """

    mode = "ema"

    def __init__(self, decay: float = 0.4, every: int = 512, dtype: str | None = None) -> None:
        super().__init__(dtype)
        if not 0 <= decay < 1 or every < 1:
            raise InputError(f"model.reference: EMA(decay={decay}, every={every}); decay is in [0, 1) and every at least 1")
        self.decay, self.every = decay, every

    @torch.no_grad()
    def after_update(self, actor: Actor, step: int) -> None:
        if step % self.every:
            return
        trained = dict(actor.model.named_parameters())
        for name, own in self.model.named_parameters():
            if trained[name].requires_grad:
                own.mul_(self.decay).add_(trained[name].to(own), alpha=1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        return {name: value.cpu() for name, value in self.model.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)
