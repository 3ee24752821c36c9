"""References: the base measure u of the posterior form, frozen, outside every state dict and optimizer."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import Dtype, LanguageModel, as_model, refuse_other_tokens
from lit_rlhf.components.modes import evaluating
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch, Sequences


class Reference(ABC):
    """log u(y_t | x, y_<t). Not a Module: no frozen weight enters a checkpoint. The random state never moves."""

    mode: str
    """One word for logs."""
    equal_at_start: bool
    """Whether it must equal the policy before the first update."""

    def check(self, actor: Actor) -> None:
        """Reads no weight.

        Raises:
            InputError: an actor that it cannot serve.
        """

    @abstractmethod
    def build(self, actor: Actor) -> None:
        """Gets its weights; called once the actor has its own."""

    @abstractmethod
    def token_logps(self, sequences: Sequences) -> Tensor:
        """[T] in nats, without gradient."""

    def token_kl(self, actor: Actor, sequences: Sequences) -> Tensor | None:
        """[T] KL(pi || u) over the vocabulary at every completion token, in nats; None where u is not known so well."""

    def as_policy(self, actor: Actor) -> contextlib.AbstractContextManager[LanguageModel]:
        """u as a model that can be sampled from, for as long as the context lasts.

        Raises:
            InputError: u is known by its log-probs alone.
        """
        raise InputError(f"model.reference: {type(self).__name__} gives log-probs and no model to sample from; use FrozenCopy")

    def to(self, device: torch.device | str) -> None:
        """Moves the weights."""

    def precompute(self, batches: Iterable[Batch]) -> None:
        """Computes what will be asked, for references that keep it."""

    def after_update(self, actor: Actor, step: int) -> None:
        """Called after every optimizer step."""

    def told(self) -> str:
        """What it has to say when training ends; nothing for most."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; nothing for a reference that is rebuilt from its source."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


class _OwnModel(Reference):
    """A reference with a model of its own."""

    model: LanguageModel

    @torch.no_grad()
    def token_logps(self, sequences: Sequences) -> Tensor:
        return self.model.token_logps(sequences).values

    def token_kl(self, actor: Actor, sequences: Sequences) -> Tensor:
        return actor.model.token_kl(sequences, self.model)

    def as_policy(self, actor: Actor) -> contextlib.AbstractContextManager[LanguageModel]:
        return contextlib.nullcontext(self.model)

    def to(self, device: torch.device | str) -> None:
        self.model.to(device)


class FrozenCopy(_OwnModel):
    """The policy as it was before the first update. Weights that the policy does not train are shared with it.

    Args:
        dtype: of a copy stored in another precision, nothing shared; the actor's when None.
    """

    mode = "frozen_copy"
    equal_at_start = True

    def __init__(self, dtype: Dtype | None = None) -> None:
        self.dtype = dtype

    def build(self, actor: Actor) -> None:
        shared = [] if self.dtype else [weight for weight in actor.model.parameters() if not weight.requires_grad]
        self.model = copy.deepcopy(actor.model, {id(weight): weight for weight in shared})
        if self.dtype is not None:
            self.model.to(getattr(torch, self.dtype))
        self.model.requires_grad_(False).eval()


class FromCheckpoint(_OwnModel):
    """Another model: a hub name, a folder or a run of ours.

    Args:
        model: a source or a language model; `LanguageModel.dtype` says how its weights are stored.

    Raises:
        InputError: its tokens are not the actor's.
    """

    mode = "checkpoint"
    equal_at_start = False

    def __init__(self, model: LanguageModel | str) -> None:
        self.model = as_model(model)

    def check(self, actor: Actor) -> None:
        refuse_other_tokens(self.model, actor.model, "model.reference")

    def build(self, actor: Actor) -> None:
        self.check(actor)
        with torch.random.fork_rng(devices=[]):
            self.model.build(frozen=True)


class AdapterOff(Reference):
    """The actor without its adapters: no second copy of the weights.

    Raises:
        InputError: the actor has no adapters.
    """

    mode = "adapter_off"
    equal_at_start = True

    def check(self, actor: Actor) -> None:
        if actor.model.lora is None:
            source = actor.model.source or "SOURCE"
            raise InputError(
                "model.reference: AdapterOff needs an actor with adapters; add --model.actor.model=LanguageModel "
                f"--model.actor.model.source={source} --model.actor.model.lora=LoRA, or use FrozenCopy"
            )

    def build(self, actor: Actor) -> None:
        self.check(actor)
        self._trained = actor.model

    @torch.no_grad()
    def token_logps(self, sequences: Sequences) -> Tensor:
        with evaluating(self._trained.net), self._trained.net.disable_adapter():
            return self._trained.token_logps(sequences).values

    @torch.no_grad()
    def token_kl(self, actor: Actor, sequences: Sequences) -> Tensor:
        model = actor.model
        with evaluating(model.net), model.net.disable_adapter():
            others = model.hidden(sequences)
        return model.token_kl(sequences, model, others=others)

    @contextlib.contextmanager
    def as_policy(self, actor: Actor) -> Iterator[LanguageModel]:
        with actor.model.net.disable_adapter():
            yield actor.model


class EMA(FrozenCopy):
    """u <- decay * u + (1 - decay) * pi every so many updates (TR-DPO's soft update; decay 0 is its hard one).

    The average is over what the policy trains, adapters alone where it has some.
    See "Learn Your Reference Model for Real Good Alignment" by Gorbatovski et al. (https://arxiv.org/abs/2404.09656).

    Args:
        decay: what stays of the reference.
        every: updates between two moves.

    Raises:
        InputError: `decay` is not in [0, 1), or `every` below 1.
    """

    mode = "ema"

    def __init__(self, decay: float = 0.4, every: int = 512) -> None:
        super().__init__()
        if not 0 <= decay < 1 or every < 1:
            raise InputError(
                f"model.reference: EMA(decay={decay}, every={every}); decay is in [0, 1) and every at least 1"
            )
        self.decay, self.every = decay, every

    @torch.no_grad()
    def after_update(self, actor: Actor, step: int) -> None:
        if step % self.every == 0:
            for own, trained in self._pairs(actor.model):
                own.lerp_(trained.to(own), 1 - self.decay)

    def build(self, actor: Actor) -> None:
        super().build(actor)
        self._names = tuple(name for name, weight in actor.model.named_parameters() if weight.requires_grad)

    def state_dict(self) -> dict[str, Any]:
        own = dict(self.model.named_parameters())
        return {name: own[name].detach().cpu() for name in self._names}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        own = dict(self.model.named_parameters())
        for name in self._names:
            own[name].copy_(state[name])

    def _pairs(self, trained: LanguageModel) -> Iterator[tuple[Tensor, Tensor]]:
        own, its = dict(self.model.named_parameters()), dict(trained.named_parameters())
        return ((own[name], its[name]) for name in self._names)
