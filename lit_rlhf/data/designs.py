"""Pair designs: what each training pair weighs. The pair law decides how fast PRA and RDA converge, not where to."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from lit_rlhf.data.records import Group
from lit_rlhf.errors import InputError

Named = Literal["uniform", "inverse_variance", "sampler"]


@dataclass(frozen=True)
class PairTable:
    """All training pairs, group by group."""

    probability: np.ndarray
    """[E] that chosen is preferred."""
    gap: np.ndarray
    """[E] reward of chosen less reward of rejected; NaN where it is not known."""
    weight: np.ndarray
    """[E] what each weighs by the data."""
    start: np.ndarray
    """[n + 1] where the pairs of each group begin, and E."""
    groups: Sequence[Group] = ()

    @staticmethod
    def of(groups: Sequence[Group]) -> PairTable:
        """The pairs of these groups."""
        rows, sizes = [], [0]
        for group in groups:
            sizes.append(len(group.pairs))
            rows += [(p.probability, np.nan if p.gap is None else p.gap, group.weight * p.weight) for p in group.pairs]
        columns = np.array(rows, dtype=np.float64).reshape(-1, 3).T
        return PairTable(*columns, np.cumsum(sizes), groups)

    def __len__(self) -> int:
        return len(self.probability)

    def row(self, pair: int) -> str:
        """Where a pair comes from."""
        return self.groups[int(np.searchsorted(self.start, pair, side="right")) - 1].row


class PairDesign(ABC):
    """A law over training pairs."""

    follows_policy: ClassVar[bool] = False
    """Whether it reads margins, which the callback `PairWeights` writes before every epoch."""

    @abstractmethod
    def __call__(self, pairs: PairTable, margin: np.ndarray | None) -> np.ndarray:
        """[E] the weights, 0 or more, up to a common factor.

        Args:
            pairs: all training pairs.
            margin: [E] h = tau log[pi(y) u(y') / (pi(y') u(y))] of chosen y and rejected y'; None before the first
                epoch, and for a design that does not follow the policy.

        Raises:
            InputError: the pairs do not have what the design reads.
        """

    @property
    def identity(self) -> str:
        """The class and its arguments."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({arguments})"


@dataclass(frozen=True)
class Uniform(PairDesign):
    """Every pair weighs what it weighs by the data."""

    def __call__(self, pairs: PairTable, margin: np.ndarray | None) -> np.ndarray:
        return np.ones(len(pairs))


@dataclass(frozen=True)
class InverseVariance(PairDesign):
    """w = 1 / (p (1 - p)): the Hessian of PRA at the target is then that of RDA, and all pairs curve alike.

    With all pairs of n responses lam_2 = n / sum_{j<k} 1 / (p (1 - p)), and no design has a larger one where rewards
    are near each other (theory: 2.5). Where they are far apart, weight goes to pairs that say little: bound it.

    Args:
        most: largest weight, as a multiple of that of a tie.

    Raises:
        InputError: `most` is not above 1. When called: a label is 0 or 1.
    """

    most: float = 25.0

    def __post_init__(self) -> None:
        _above_one(self)

    def __call__(self, pairs: PairTable, margin: np.ndarray | None) -> np.ndarray:
        if len(certain := np.flatnonzero(np.isin(pairs.probability, (0.0, 1.0)))):
            raise InputError(
                f"{pairs.row(certain[0])}: data.design weighs by 1 / (p (1 - p)), and the label of this and of "
                f"{len(certain) - 1} more of {len(pairs)} pairs is 0 or 1, whose weight would be infinite. Give probabilities (data.labels=soft, where "
                "responses are scored), or choose data.design=sampler, which reads no label"
            )
        return bounded(pairs.probability, self.most)


@dataclass(frozen=True)
class InverseSlope(PairDesign):
    """w = 1 / sigma'(h), with the margins h of the present policy: pairs that the link would flatten count the more.

    With exact labels and step 1 / (tau^2 n) convergence is quadratic where uniform pairs give a linear one (theory: 2.5;
    the mechanism of "The Crucial Role of Samplers in Online Direct Preference Optimization" by Shi et al.,
    https://arxiv.org/abs/2409.19605). Margins are those at the beginning of an epoch; at a policy equal to its
    reference they are 0, and the design is uniform.

    Args:
        most: largest weight, as a multiple of that of a margin of 0.

    Raises:
        InputError: `most` is not above 1.
    """

    most: float = 25.0
    follows_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _above_one(self)

    def __call__(self, pairs: PairTable, margin: np.ndarray | None) -> np.ndarray:
        if margin is None:
            return np.ones(len(pairs))
        near = np.exp(-np.abs(margin))
        return bounded(near / (1 + near), self.most)


DESIGNS: dict[str, type[PairDesign]] = {
    "uniform": Uniform, "inverse_variance": InverseVariance, "sampler": InverseSlope,
}


def design_of(given: PairDesign | Named) -> PairDesign:
    """The design of that name, with its defaults, or the design that is given.

    Raises:
        InputError: there is no design of that name.
    """
    if isinstance(given, PairDesign):
        return given
    if given not in DESIGNS:
        raise InputError(f"data.design: {given!r}, expected {', '.join(DESIGNS)}, or a PairDesign")
    return DESIGNS[given]()


def bounded(p: np.ndarray, most: float) -> np.ndarray:
    """min(1 / (4 p (1 - p)), most)."""
    return 1 / np.maximum(4 * p * (1 - p), 1 / most)


class PairLaw:
    """The weights of all training pairs at present.

    Args:
        design: gives them.
        pairs: what it weighs.

    Raises:
        InputError: the pairs do not have what the design reads.
    """

    def __init__(self, design: PairDesign, pairs: PairTable) -> None:
        self.design, self.pairs = design, pairs
        self.follow(None)

    def follow(self, margin: np.ndarray | None) -> None:
        """Weighs anew; all pairs together weigh what they do by the data, 1 on average where those weights are 1.

        Args:
            margin: [E] see `PairDesign`.

        Raises:
            InputError: the design's weights are not E numbers from 0 on with a positive sum.
        """
        weight = np.asarray(self.design(self.pairs, margin), dtype=np.float64)
        own = self.pairs.weight
        wrong = weight.shape != own.shape or not np.isfinite(weight).all() or (weight < 0).any()
        if wrong or (own.sum() > 0 and not (own * weight).sum() > 0):
            raise InputError(
                f"data.design: {self.design.identity} gave weights of shape {weight.shape} for {len(own)} pairs; expected one each, "
                "finite, 0 or more, and not all 0"
            )
        self.weight = weight * (own.sum() / (own * weight).sum()) if own.sum() > 0 else weight

    def line(self) -> str:
        """A sentence for the report."""
        if self.design.follows_policy:
            return f"pairs are weighed by {self.design.identity}, anew before every epoch; validation is not"
        total = self.pairs.weight * self.weight
        effective = total.sum() ** 2 / (len(total) * (total**2).sum()) if total.any() else 1.0
        return (
            f"pairs are weighed by {self.design.identity}: {self.weight.min():.2f} least, {self.weight.max():.2f} most, as if "
            f"{effective:.0%} of them counted alike; validation is not"
        )


class WeighedGroups(Sequence[Group]):
    """Groups whose pairs weigh what a law says, on top of what they weigh by the data."""

    def __init__(self, groups: Sequence[Group], law: PairLaw) -> None:
        self.groups, self.law = groups, law

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Group:
        group, start = self.groups[index], self.law.pairs.start
        own = self.law.weight[start[index] : start[index + 1]].tolist()
        weighed = zip(group.pairs, own, strict=True)
        pairs = tuple(dataclasses.replace(pair, weight=pair.weight * weight) for pair, weight in weighed)
        return dataclasses.replace(group, pairs=pairs)


def law_of(design: PairDesign, signal: str, groups: Any, table: Callable[[Any], PairTable]) -> PairLaw | None:
    """The law of the pairs of training groups; None where each weighs what it weighs by the data.

    Args:
        design: gives the weights.
        signal: what the groups carry.
        groups: a sequence, or a stream.
        table: the pairs of a sequence.

    Raises:
        InputError: there are no pairs, or a stream has no end; or the pairs do not have what the design reads.
    """
    if isinstance(design, Uniform):
        return None
    if signal not in ("gap", "preference"):
        raise InputError(
            f"data.design: {design.identity} weighs pairs, and the loss reads none of the data's (its signal is {signal}); "
            "leave data.design at uniform, or train with a loss on pairs"
        )
    if not isinstance(groups, Sequence):
        raise InputError(
            f"data.design: {design.identity} weighs pairs by their mean over the data, which a stream does not have; "
            "set data.streaming to false, or data.design to uniform"
        )
    return PairLaw(design, table(groups)) if len(groups) else None


def _above_one(design: Any) -> None:
    if not design.most > 1:
        raise InputError(f"{type(design).__name__}.most: {design.most}, expected more than 1")
