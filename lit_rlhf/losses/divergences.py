"""f-divergences as parts: what takes the place of log(pi/u) in a head (f-DPO)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import divergences


class Divergence(ABC):
    """f'(w) as a function of log w, with w = pi/u of a whole completion."""

    @abstractmethod
    def __call__(self, log_ratio: Tensor) -> Tensor:
        """The score, of the shape of its argument."""


@dataclass(frozen=True)
class ReverseKL(Divergence):
    """log w: DPO itself."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return divergences.reverse_kl(log_ratio)


@dataclass(frozen=True)
class ForwardKL(Divergence):
    """-1 / w."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return divergences.forward_kl(log_ratio)


@dataclass(frozen=True)
class JensenShannon(Divergence):
    """log(2 w / (1 + w))."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return divergences.jensen_shannon(log_ratio)


@dataclass(frozen=True)
class AlphaDivergence(Divergence):
    """(1 - w^-alpha) / alpha.

    Args:
        alpha: in (0, 1); towards 0 it is the reverse KL, at 1 it would be the forward KL.

    Raises:
        InputError: alpha is outside (0, 1).
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(
                f"AlphaDivergence.alpha is {self.alpha}; it is in (0, 1), whose ends are ReverseKL and ForwardKL"
            )

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return divergences.alpha_divergence(log_ratio, self.alpha)
