"""What a composition aims with: temperature, base measure, what of it moves; and its head in words."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reference import EMA
from lit_rlhf.credit.kl import AdaptiveKL, KLInReward
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import AgainstBehaviour, LossHead, Prior, Scaled, Sum, Wrapper


def temperatures(head: LossHead) -> Iterator[float]:
    """The tau of a head and of the heads it is composed of, in order."""
    for field in dataclasses.fields(head) if dataclasses.is_dataclass(head) else ():
        value = getattr(head, field.name)
        if field.name == "tau" and value is not None:
            yield float(value)
        for inner in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(inner, LossHead):
                yield from temperatures(inner)


def described(head: LossHead) -> str:
    """A head with the arguments that are not its class's own."""
    if isinstance(head, Sum):
        return " + ".join(described(term) for term in head.terms)
    if isinstance(head, Scaled):
        return f"{head.coefficient:g} {described(head.head)}"
    return _named(head)


def _named(part: Any) -> str:
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return f"{part:g}" if isinstance(part, float) else str(part)
    given = []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name in ("tau", "head") or value != field.default:
            text = described(value) if isinstance(value, LossHead) else _named(value)
            given.append(text if field.name == "head" else f"{field.name}={text}")
    return f"{type(part).__name__}({', '.join(given)})"


def tau_of(algorithm: Algorithm) -> float:
    """The temperature of a composition: of the KL in its reward, else of its loss; 0 where there is none."""
    steps = (step.tau for step in getattr(algorithm, "credit", ()) if isinstance(step, KLInReward) and step.tau > 0)
    return next((tau for tau in (*steps, *temperatures(algorithm.loss)) if tau > 0), 0.0)


def with_tau(algorithm: Algorithm, tau: float) -> Algorithm:
    """A copy with this temperature in the place of its own, of the head and of the KL in the reward.

    Raises:
        InputError: no part has one, or a part refuses it.
    """
    if not tau > 0:
        raise InputError(f"--tau={tau:g}: expected a positive number, as a temperature is")
    if not tau_of(algorithm):
        raise InputError(f"--tau={tau:g}: no part of {type(algorithm).__name__} has a temperature; leave it out")
    memo: dict[int, Any] = {} if getattr(algorithm, "_trainer", None) is None else {id(algorithm._trainer): None}
    for module in algorithm.modules():
        if isinstance(module, LanguageModel):
            memo[id(module)] = module
    twin = copy.deepcopy(algorithm, memo)
    twin.loss = _cooled(twin.loss, tau)
    for step in getattr(twin, "credit", ()):
        if isinstance(step, KLInReward) and step.tau > 0:
            step.coefficient = tau
    return twin


def _cooled(head: LossHead, tau: float) -> LossHead:
    """The head with every positive tau replaced."""
    if not dataclasses.is_dataclass(head):
        return head
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(head):
        value = getattr(head, field.name)
        if field.name == "tau" and value:
            changed["tau"] = tau
        elif isinstance(value, LossHead):
            changed[field.name] = _cooled(value, tau)
        elif isinstance(value, (tuple, list)) and any(isinstance(inner, LossHead) for inner in value):
            changed[field.name] = tuple(_cooled(one, tau) if isinstance(one, LossHead) else one for one in value)
    return dataclasses.replace(head, **changed) if changed else head


Form = Literal["prior", "posterior", "behaviour"]
"""The base measure: 1, the reference, or the policy that sampled."""


@dataclass(frozen=True)
class Aim:
    """What a composition would have for a target if it were Boltzmann."""

    tau: float
    """0 where it has none."""
    form: Form
    penalties: tuple[float, ...] = ()
    """Coefficients of regularisers: temperatures of another kind."""
    samples: bool = False
    """Whether it trains on its own samples, and no data have a law."""


def aim_of(algorithm: Algorithm) -> Aim:
    """Temperature and form of a composition."""
    own = tuple(coefficient for coefficient in _penalties(algorithm.loss) if coefficient > 0)
    return Aim(tau_of(algorithm), _form(algorithm), own, algorithm.samples)


def _form(algorithm: Algorithm) -> Form:
    kl = any(isinstance(step, KLInReward) and step.tau > 0 for step in getattr(algorithm, "credit", ()))
    if not kl and _wrapped(algorithm.loss, AgainstBehaviour):
        return "behaviour"
    hidden = algorithm.reference is None or not kl and _wrapped(algorithm.loss, Prior)
    return "prior" if hidden else "posterior"


def _wrapped(head: LossHead, by: type[Wrapper]) -> bool:
    """Whether the first head with a temperature is inside such a wrapper."""
    if isinstance(head, Sum):
        return next((_wrapped(term, by) for term in head.terms if next(temperatures(term), 0.0) > 0), False)
    return isinstance(head, by) or isinstance(head, Wrapper) and _wrapped(head.head, by)


def _penalties(head: LossHead) -> Iterator[float]:
    for term in head.terms if isinstance(head, Sum) else ():
        if isinstance(term, Scaled) and term.family == "regulariser":
            yield term.coefficient
        else:
            yield from _penalties(term)


def moves(algorithm: Algorithm) -> list[str]:
    """What of the target is not fixed, in words: a reference that follows, a temperature that is steered or learned."""
    found = []
    if algorithm.reference is not None and isinstance(algorithm.reference, EMA):
        found.append(f"the reference follows the policy ({algorithm.reference.mode})")
    if any(isinstance(getattr(step, "coefficient", None), AdaptiveKL) for step in getattr(algorithm, "credit", ())):
        found.append("the temperature is steered to a KL (AdaptiveKL)")
    if any(part.fills == "tau" for part in algorithm.learned):
        found.append("the temperature is learned")
    return found
