"""What all advantages of an iteration have in common, over all ranks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import own_token_weight, own_weight, totals
from lit_rlhf.credit.statistics import moments
from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import owner, segment_sum
from lit_rlhf.functional.value import precise
from lit_rlhf.losses.base import Metric
from lit_rlhf.losses.evidence import one_of
from lit_rlhf.types import Rollout

Over = Literal["token", "sequence"]
"""Whether long completions weigh as many times as they have tokens in a mean, or once."""


@dataclass(frozen=True)
class Whiten(CreditStep):
    """A_t <- (A_t - mean) / (std + epsilon), mean and std over the iteration's tokens on all ranks, by their weights.

    Args:
        shift: subtract the mean.
        over: every token once, or every completion once (a token of one with n weighs 1/n).
        epsilon: what is added to the standard deviation.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"advantages"})
    gives: ClassVar[frozenset[str]] = frozenset({"advantages"})

    shift: bool = True
    over: Over = "token"
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        one_of(Over, self.over, self, "over")
        if not self.epsilon > 0:
            raise InputError(f"Whiten.epsilon is {self.epsilon}; it is a positive number, as advantages may not vary")

    def __call__(self, rollout: Rollout) -> Credited:
        advantages = made(rollout, self)
        found = moments(advantages, self.weight(rollout))
        centred = precise(advantages) - found.mean if self.shift else precise(advantages)
        white = centred / (found.variance.sqrt() + self.epsilon)
        return Credited(dataclasses.replace(rollout, advantages=white.to(advantages.dtype)))

    def weight(self, rollout: Rollout) -> Tensor:
        """[T] of each token in the mean."""
        weight = own_token_weight(rollout)
        if self.over == "token":
            return weight
        lengths = rollout.sequences.completion_lengths
        mass = segment_sum(rollout.sequences.token_weight, lengths)
        return weight / torch.where(mass > 0, mass, 1.0)[owner(lengths)]


class Baseline(CreditStep):
    """A_t <- A_t - b, b the mean total reward of the completions of all ranks: of this iteration, or of those before.

    A running b does not depend on the samples it is subtracted from; the batch's own scales the expected gradient by
    1 - 1/n. The first iteration has none before it and takes its own.

    Args:
        of: the mean of the batch, or b <- decay b + (1 - decay) mean over iterations.
        decay: weight of the past in the running mean.
    """

    needs = frozenset({"advantages"})
    gives = frozenset({"advantages"})

    def __init__(self, of: Literal["batch", "running"] = "running", decay: float = 0.9) -> None:
        one_of(Literal["batch", "running"], of, self, "of")
        if not 0 <= decay < 1:
            raise InputError(f"Baseline.decay is {decay}; it is a number from 0 to below 1")
        self.of, self.decay = of, decay
        self.running: float | None = None

    def __call__(self, rollout: Rollout) -> Credited:
        advantages = made(rollout, self)
        found = moments(totals(rollout), own_weight(rollout))
        baseline = float(found.mean) if self.of == "batch" or self.running is None else self.running
        if float(found.weight) > 0:
            before = float(found.mean) if self.running is None else self.running
            self.running = self.decay * before + (1 - self.decay) * float(found.mean)
        one = advantages.new_ones(())
        lowered = dataclasses.replace(rollout, advantages=advantages - baseline)
        return Credited(lowered, (Metric("baseline", baseline * one, one),))

    def state_dict(self) -> dict[str, Any]:
        return {"running": self.running}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.running = state.get("running")


def made(rollout: Rollout, step: CreditStep) -> Tensor:
    """[T] the advantages that a step before has made.

    Raises:
        InputError: none has.
    """
    if rollout.advantages is None:
        raise InputError(f"{type(step).__name__} changes advantages, and no step before it made any; put one there")
    return rollout.advantages
