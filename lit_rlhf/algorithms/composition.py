"""Does a composition have the parts its head needs? Refused when it is built, in a sentence that names the part."""

from __future__ import annotations

from typing import Any

from lit_rlhf.components.language_model import refuse_other_tokens
from lit_rlhf.errors import InputError

# What a head may need, and which argument of the algorithm gives it.
GIVEN_BY = {
    "policy": "actor",
    "reference": "reference",
    "values": "critic",
    "score": "reward",
    "log_partition": "learned",
    "tau": "learned",
}
SAMPLED = frozenset({"behaviour", "advantages", "returns"})


def refuse_impossible(algorithm: Any) -> None:
    """Compares what the head needs with the parts that are there.

    Raises:
        InputError: naming the head, the need and the argument that would give it.
    """
    head, name = algorithm.loss, type(algorithm).__name__
    available = available_fields(algorithm)
    for need in sorted(head.needs):
        if need in SAMPLED:
            raise InputError(
                f"model.loss: {type(head).__name__} reads {need!r}, which only sampled rollouts have, and {name} trains on given "
                "data; use a head of preferences, rewards or labels"
            )
        if need in GIVEN_BY and need not in available:
            raise InputError(
                f"model.{GIVEN_BY[need]}: {type(head).__name__} needs {need!r} and {name} was given no part for it; "
                f"set model.{GIVEN_BY[need]}, or choose a head that does without"
            )
    if algorithm.critic is not None and "values" not in head.needs:
        raise InputError(f"model.critic: no head of {type(head).__name__} reads the values it would learn; leave it out")


def refuse_strangers(algorithm: Any) -> None:
    """Compares the parts with each other; tokenizers are read and no weights.

    Raises:
        InputError: a part reads other tokens than the first one, or the reference cannot serve the actor.
    """
    (_, first), *others = algorithm.parts
    for name, part in others:
        if hasattr(part, "model") and hasattr(first, "model"):
            refuse_other_tokens(part.model, first.model, f"model.{name}.model")
    if algorithm.reference is not None:
        algorithm.reference.check(algorithm.actor)


def available_fields(algorithm: Any) -> frozenset[str]:
    """The fields of the evidence that this composition can fill."""
    given = {"reference": algorithm.reference, "values": algorithm.critic}
    fields = {name for name, part in given.items() if part is not None}
    fields.add({"actor": "policy", "reward": "score"}[algorithm.trains])
    return frozenset(fields | {part.fills for part in algorithm.learned})
