"""Who else answers the prompts of an iteration: a fixed law that the policy is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import Reference
from lit_rlhf.errors import InputError
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.sampling.mixture import Mixture
from lit_rlhf.types import Prompts, Samples


class Opponent(ABC):
    """Adds completions of another law to every group; they are marked in `Rollout.opponent`."""

    completions: int
    """Of each prompt."""

    @abstractmethod
    def sample(self, sampler: Sampler, actor: Actor, reference: Reference, prompts: Prompts, draw: int) -> Samples:
        """The opponent's completions, by the algorithm's sampler."""


class FromReference(Opponent):
    """The reference itself (XPO).

    Args:
        completions: of each prompt.

    Raises:
        InputError: none.
    """

    def __init__(self, completions: int = 1) -> None:
        _refuse_none(completions)
        self.completions = completions

    def sample(self, sampler: Sampler, actor: Actor, reference: Reference, prompts: Prompts, draw: int) -> Samples:
        with reference.as_policy(actor) as model:
            return sampler.sample(model, prompts, self.completions, draw)


class FromMixture(Opponent):
    """The geometric mixture, token by token proportional to pi^(1 - weight) u^weight (Nash-MD).

    Args:
        weight: of the reference, between 0 (the policy) and 1 (the reference).
        completions: of each prompt.

    Raises:
        InputError: an argument is out of range; when it samples, a reference without a model of its own.
    """

    def __init__(self, weight: float = 0.125, completions: int = 1) -> None:
        _refuse_none(completions)
        if not 0 <= weight <= 1:
            raise InputError(f"model.opponent.weight: {weight}, expected a share between 0 and 1")
        self.weight, self.completions = weight, completions

    def sample(self, sampler: Sampler, actor: Actor, reference: Reference, prompts: Prompts, draw: int) -> Samples:
        with reference.as_policy(actor) as model:
            if model is actor.model:
                raise InputError(
                    f"model.opponent: a mixture asks policy and reference at once, and the reference ({reference.mode}) has "
                    "no model of its own; use FrozenCopy or FromCheckpoint"
                )
            return sampler.sample(Mixture(actor.model, model, self.weight), prompts, self.completions, draw)


def _refuse_none(completions: int) -> None:
    if completions < 1:
        raise InputError(f"model.opponent.completions: {completions}, expected 1 or more")
