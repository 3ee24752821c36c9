"""Soft values of every next token: twin critics over the vocabulary, and slow copies of them as targets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel, as_trained
from lit_rlhf.components.modes import evaluating
from lit_rlhf.components.reference import Reference
from lit_rlhf.errors import InputError
from lit_rlhf.types import Sequences


@dataclass(frozen=True)
class SoftStates:
    """Policy and critics at the states of T completion tokens. Rows are a slice of them: no [T, V] tensor is made."""

    vocabulary: int
    """V"""
    policy: Callable[[slice], Tensor]
    """rows -> [chunk, V] log pi(. | s) in nats, with the policy's gradient."""
    critic: Callable[[slice], Tensor]
    """rows -> [chunk, V] min_i Q_i(s, .), without gradient."""
    target: Callable[[slice], Tensor]
    """rows -> [chunk, V] min_i Q'_i(s, .) of the slow copies, without gradient."""
    taken: Callable[[Tensor], Tensor]
    """ids [T] -> [2, T] Q_i(s_t, ids_t), with the critics' gradient."""
    base: Callable[[slice], Tensor] | None = None
    """rows -> [chunk, V] log u(. | s) of the reference in nats, without gradient; None without one."""


class TwinHead(nn.Module):
    """Q_i = W_i h + b_i, i = 1, 2, of a state h; drawn small, so that the two differ.

    Args:
        trunk: a network, for the device and the precision of its weights.
        width: D
        vocabulary: V
    """

    def __init__(self, trunk: nn.Module, width: int, vocabulary: int) -> None:
        super().__init__()
        like = next(trunk.parameters())
        made = {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
        self.weight = nn.Parameter(torch.empty((2, vocabulary, width), **made).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros((2, vocabulary), **made))

    @property
    def vocabulary(self) -> int:
        """V"""
        return self.weight.shape[1]

    def forward(self, states: Tensor) -> Tensor:
        """[chunk, D] -> [chunk, V] the smaller of the two."""
        dtype = _arithmetic(states, self.weight)
        with torch.autocast(states.device.type, enabled=False):
            return torch.einsum("nd,ivd->inv", states.to(dtype), self.weight.to(dtype)).add(self.bias[:, None]).amin(0)

    def taken(self, states: Tensor, ids: Tensor) -> Tensor:
        """[T, D], [T] -> [2, T] both, of one token each."""
        with torch.autocast(states.device.type, enabled=False):
            return (self.weight[:, ids] * states.to(self.weight.dtype)).sum(-1) + self.bias[:, ids]


class SoftCritic(nn.Module):
    """Q_i(x, y_<t, a) of every next token a, i = 1, 2: linear functions of one trunk's state.

    Its slow copy Q' <- Q' + rate (Q - Q') moves after every update. It is no part of the module: its trained weights
    are in `target_state` and the others are shared.
    See "Soft Actor-Critic" by Haarnoja et al. (https://arxiv.org/abs/1812.05905), section 6.

    Args:
        model: the trunk, trained too; a source or a language model.
        lr: learning rate of this part; the optimizer's own when None.
        rate: of the slow copy, for each update.

    Raises:
        InputError: `rate` is not in (0, 1].
    """

    fills: ClassVar[str] = "soft_q"

    def __init__(self, model: LanguageModel | str, lr: float | None = None, rate: float = 0.005) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise InputError(f"SoftCritic.rate is {rate}; it is above 0 and at most 1")
        self.model, self.lr, self.rate = as_trained(model), lr, rate
        self.head: TwinHead | None = None
        self._held: tuple[SoftCritic, ...] = ()

    def build(self) -> None:
        """Loads the weights and copies them, once."""
        self.model.build(head=False)
        if self.head is None:
            vocabulary = self.model.base.get_input_embeddings().num_embeddings
            self.head = TwinHead(self.model.net, self.model.width, vocabulary)
            shared = {id(weight): weight for weight in self.parameters() if not weight.requires_grad}
            self._held = (copy.deepcopy(self, shared).requires_grad_(False).eval(),)

    def states(
        self, sequences: Sequences, policy: LanguageModel, hidden: Tensor, base: Callable[[slice], Tensor] | None = None
    ) -> SoftStates:
        """What heads read.

        Args:
            sequences: N prompts, T completion tokens.
            policy: the language model whose states are `hidden`.
            hidden: [T, D]
            base: of the reference; see `SoftStates`.

        Raises:
            InputError: policy and critic have vocabularies of different sizes.
        """
        self._refuse_other_size(policy)
        own, slow = self.model.hidden(sequences), self._slow_hidden(sequences)
        (copied,) = self._held
        return SoftStates(
            self.head.vocabulary, every_next(policy, hidden), _frozen(self.head.forward, own),
            _frozen(copied.head.forward, slow), lambda ids: self.head.taken(own, ids), base,
        )

    @torch.no_grad()
    def _slow_hidden(self, sequences: Sequences) -> Tensor:
        return self._held[0].model.hidden(sequences)

    @torch.no_grad()
    def after_update(self) -> None:
        """Moves the slow copy; called after every optimizer step."""
        (copied,) = self._held
        own = dict(self.named_parameters())
        for name, slow in copied.named_parameters():
            if own[name].requires_grad:
                slow.lerp_(own[name], self.rate)

    def target_state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of the slow copy."""
        slow = dict(self._held[0].named_parameters())
        return {name: slow[name].detach().cpu() for name, own in self.named_parameters() if own.requires_grad}

    @torch.no_grad()
    def load_target_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `target_state`."""
        slow = dict(self._held[0].named_parameters())
        for name, value in state.items():
            slow[name].copy_(value)

    def _refuse_other_size(self, policy: LanguageModel) -> None:
        own, its = self.head.vocabulary, len(policy.output_head.weight)
        if own != its:
            raise InputError(
                f"model.critic.model: it knows {own} tokens and the actor's output head has {its}: there would be no "
                "value for some. Name a model with as many tokens as the actor's"
            )

    def _apply(self, fn: Any, recurse: bool = True) -> SoftCritic:
        for copied in self._held:
            copied._apply(fn, recurse)  # `.to(device)` arrives here
        return super()._apply(fn, recurse)


def every_next(model: LanguageModel, states: Tensor) -> Callable[[slice], Tensor]:
    """rows -> [chunk, V] log-probs in nats of every next token, from a model's states [T, D]."""
    return lambda rows: model.form.projected(model.output_head, states[rows]).logits().log_softmax(-1)


@torch.no_grad()
def base_of(reference: Reference | None, actor: Actor, sequences: Sequences) -> Callable[[slice], Tensor] | None:
    """rows -> [chunk, V] log u of every next token, without gradient; None without a reference.

    Raises:
        InputError: the reference is known by its log-probs alone.
    """
    if reference is None:
        return None
    with reference.as_policy(actor) as model, evaluating(model.net):
        law = every_next(model, model.hidden(sequences))
    return lambda rows: torch.no_grad()(law)(rows)


def _frozen(head: Callable[[Tensor], Tensor], states: Tensor) -> Callable[[slice], Tensor]:
    """rows -> [chunk, V] of a head, without gradient."""
    return lambda rows: torch.no_grad()(head)(states[rows])


def _arithmetic(states: Tensor, weight: Tensor) -> torch.dtype:
    """The precision of a product: autocast's where it is on, else that of the weight."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
