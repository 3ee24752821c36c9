"""What a loss head is, and how heads compose: `head + head`, `0.05 * head`, `Prior(head)`, `AgainstBehaviour(head)`.

A head sums; the regime divides, by the count of the head's unit over the whole optimizer step on all ranks.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.losses.evidence import acting_logps, behaviour_logps
from lit_rlhf.types import Batch, Evidence, Observation, Unit


@dataclass(frozen=True)
class Term:
    """One addend of a loss: `total` [] is a sum over its `unit`, with gradient."""

    name: str
    total: Tensor
    unit: Unit
    coefficient: float = 1.0


@dataclass(frozen=True)
class Metric:
    """A weighted mean in the making: `total` [] over `weight` [], both sums, both without gradient."""

    name: str
    total: Tensor
    weight: Tensor


@dataclass(frozen=True)
class LossOutput:
    """What a head returns for one micro-batch: sums, never a mean."""

    terms: tuple[Term, ...]
    metrics: tuple[Metric, ...] = ()


class LossHead(ABC):
    """A loss as a function of evidence and batch. Concrete heads are frozen dataclasses of hyper-parameters.

    A head of your own states `family`, `needs` and `unit` and returns sums; nothing has to be registered.
    """

    @property
    @abstractmethod
    def family(self) -> str:
        """BDA, RA, RDA, PRA (how much of the reward is known) or regulariser."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Fields of evidence and batch that are read: "policy", "reference", "score", "chosen", "reward", ..."""

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """What the sums of `__call__` are divided by."""

    @abstractmethod
    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        """Sums over this micro-batch."""

    def observe(self, evidence: Evidence, batch: Batch) -> tuple[Observation, ...]:
        """What must be known of the whole step before any gradient, from this micro-batch; nothing by default.

        Called without gradient on every micro-batch. The rows come back in `evidence.observed`, gathered.
        """
        return ()

    @property
    def observes(self) -> int:
        """How many observations `observe` returns."""
        return 0

    def __add__(self, other: LossHead) -> Sum:
        return Sum((self, other))

    def __rmul__(self, coefficient: float) -> Scaled:
        return Scaled(self, coefficient)


@dataclass(frozen=True)
class Sum(LossHead):
    """The sum of heads, each divided by its own unit's count."""

    terms: Sequence[LossHead]

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))

    @property
    def family(self) -> str:
        return next((head.family for head in self.terms if head.family != "regulariser"), "regulariser")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(head.needs for head in self.terms))

    @property
    def unit(self) -> Unit:
        return self.terms[0].unit

    @property
    def observes(self) -> int:
        return sum(head.observes for head in self.terms)

    def observe(self, evidence: Evidence, batch: Batch) -> tuple[Observation, ...]:
        return tuple(row for head in self.terms for row in head.observe(evidence, batch))

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        outputs, start = [], 0
        for head in self.terms:
            stop = start + head.observes
            observed = None if evidence.observed is None else evidence.observed[start:stop]
            outputs.append(head(dataclasses.replace(evidence, observed=observed), batch))
            start = stop
        return LossOutput(
            tuple(term for output in outputs for term in output.terms),
            tuple(metric for output in outputs for metric in output.metrics),
        )


@dataclass(frozen=True)
class Wrapper(LossHead):
    """A head seen through another: everything is the inner head's unless a subclass says otherwise."""

    head: LossHead

    @property
    def family(self) -> str:
        return self.head.family

    @property
    def needs(self) -> frozenset[str]:
        return self.head.needs

    @property
    def unit(self) -> Unit:
        return self.head.unit

    @property
    def observes(self) -> int:
        return self.head.observes

    def seen(self, evidence: Evidence, batch: Batch) -> Evidence:
        """The evidence that the inner head reads."""
        return evidence

    def observe(self, evidence: Evidence, batch: Batch) -> tuple[Observation, ...]:
        return self.head.observe(self.seen(evidence, batch), batch)

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        return self.head(self.seen(evidence, batch), batch)


@dataclass(frozen=True)
class Scaled(Wrapper):
    """`coefficient * head`."""

    coefficient: float = 1.0

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        output = super().__call__(evidence, batch)
        factor = self.coefficient
        scaled = tuple(
            dataclasses.replace(term, total=factor * term.total, coefficient=factor * term.coefficient)
            for term in output.terms
        )
        return LossOutput(scaled, output.metrics)


@dataclass(frozen=True)
class Prior(Wrapper):
    """The prior form (u = 1) of one head of a sum: the reference is hidden from it.

    Raises:
        InputError: the head cannot do without a reference.
    """

    def __post_init__(self) -> None:
        if "reference" in self.head.needs:
            name = type(self.head).__name__
            raise InputError(f"Prior hides the reference, and {name} cannot do without one; use a head that can")

    def seen(self, evidence: Evidence, batch: Batch) -> Evidence:
        return dataclasses.replace(evidence, reference=None)


@dataclass(frozen=True)
class AgainstBehaviour(Wrapper):
    """The behaviour's law, recorded with a rollout, as the base measure u (REBEL, PMD, SPPO).

    pi is the policy under that law too: its temperature, its kept tokens. Pairs have it in `PreferenceBatch.drawn`.
    """

    @property
    def needs(self) -> frozenset[str]:
        return (self.head.needs - {"reference"}) | {"behaviour"}

    def seen(self, evidence: Evidence, batch: Batch) -> Evidence:
        behaviour, policy = behaviour_logps(batch, self), evidence.policy
        if policy is not None:
            policy = dataclasses.replace(policy, values=acting_logps(evidence, batch))
        return dataclasses.replace(evidence, policy=policy, reference=behaviour)
