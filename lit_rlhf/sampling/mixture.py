"""What can be sampled besides a policy: a geometric mixture of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Mixture:
    """The next-token law pi(v)^(1-w) u(v)^w / Z of a policy pi and a reference u, Z at every token anew.

    The alternative policy of Nash-MD, whose mixture over whole responses is approximated token by token.
    See "Nash Learning from Human Feedback" by Munos et al. (https://arxiv.org/abs/2312.00886).

    Args:
        policy: pi
        reference_model: u, with the policy's tokens.
        weight: w, from 0 (the policy) to 1 (the reference).

    Raises:
        InputError: a weight outside [0, 1].
    """

    policy: LanguageModel
    reference_model: LanguageModel
    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(f"Mixture.weight is {self.weight}; it is between 0 (the policy) and 1 (the reference)")

    @property
    def parts(self) -> tuple[tuple[LanguageModel, float], ...]:
        """Models and the exponents of their laws; a model of exponent 0 is left out."""
        both = ((self.policy, 1 - self.weight), (self.reference_model, self.weight))
        return tuple((model, weight) for model, weight in both if weight > 0)


Sampled = LanguageModel | Mixture
"""What a `NativeSampler` draws from."""


def parts_of(sampled: Sampled) -> tuple[tuple[LanguageModel, float], ...]:
    """Models and the exponents of their laws."""
    return sampled.parts if isinstance(sampled, Mixture) else ((sampled, 1.0),)


def policy_of(sampled: Sampled) -> LanguageModel:
    """The model whose tokens are written."""
    return sampled.policy if isinstance(sampled, Mixture) else sampled
