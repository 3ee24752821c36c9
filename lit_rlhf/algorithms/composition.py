"""Does a composition have the parts its head needs? Refused when it is built, in a sentence that names the part."""

from __future__ import annotations

from typing import Any

from lit_rlhf.components.language_model import refuse_other_tokens
from lit_rlhf.credit.composition import refuse_disorder, refuse_double_kl, refuse_unread
from lit_rlhf.errors import InputError

# What a head may need, and which argument of the algorithm gives it.
GIVEN_BY = {
    "policy": "actor",
    "reference": "reference",
    "values": "critic",
    "soft_q": "critic",
    "score": "reward",
    "log_partition": "learned",
    "tau": "learned",
}
SAMPLED = frozenset({"behaviour", "advantages", "returns", "opponent", "finished"})


def refuse_impossible(algorithm: Any) -> None:
    """Compares what the head needs with the parts that are there.

    Raises:
        InputError: naming the head, the need and the argument that would give it.
    """
    head, name = algorithm.loss, type(algorithm).__name__
    available = available_fields(algorithm)
    for need in sorted(head.needs):
        if need in SAMPLED and not algorithm.samples:
            raise InputError(
                f"model.loss: {type(head).__name__} reads {need!r}, which only sampled rollouts have, and {name} trains on given "
                "data; use a head of preferences, rewards or labels"
            )
        if need in GIVEN_BY and need not in available:
            raise InputError(
                f"model.{GIVEN_BY[need]}: {type(head).__name__} needs {need!r} and {name} was given no part for it; "
                f"set model.{GIVEN_BY[need]}, or choose a head that does without"
            )
    if algorithm.samples:
        refuse_missing_samples(algorithm)
    critic = algorithm.critic
    if critic is not None and critic.fills not in head.needs:
        raise InputError(f"model.critic: no head of {type(head).__name__} reads the {critic.fills} it would learn; leave it out")


def refuse_missing_samples(algorithm: Any) -> None:
    """Compares what credit steps and the head read of a rollout with the parts that give it.

    Raises:
        InputError: naming the step or head, the field and what would give it.
    """
    remedies = {"reference": "set model.reference", "values": "set model.critic", "group": "set model.group_size to 2 or more"}
    given, opponent = given_by_parts(algorithm), algorithm.opponent
    if opponent is not None and algorithm.reference is None:
        raise InputError(f"model.opponent: {type(opponent).__name__} samples from a reference; set model.reference")
    readers = [(f"model.credit.{place}: {type(step).__name__}", step.needs) for place, step in enumerate(algorithm.credit)]
    head = algorithm.loss
    paired = {"group"} if algorithm.paired else set()
    for reader, needs in (*readers, (f"model.loss: {type(head).__name__}", head.needs | paired)):
        for need in sorted(needs & remedies.keys() - given):
            raise InputError(f"{reader} reads {need!r}, which nothing in this {type(algorithm).__name__} gives; {remedies[need]}")
    refuse_disorder(algorithm.credit)
    refuse_unread(algorithm.credit, head)
    refuse_double_kl(algorithm.credit, head)


def given_by_parts(algorithm: Any) -> set[str]:
    """What a rollout has before any credit step."""
    others = 0 if algorithm.opponent is None else algorithm.opponent.completions
    return given_by_models(algorithm) | ({"group"} if algorithm.group_size + others > 1 else set())


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
    trained = {"actor": "policy", "reward": "score"}[algorithm.trains]
    return frozenset({trained} | given_by_models(algorithm) | {part.fills for part in algorithm.learned})


def given_by_models(algorithm: Any) -> set[str]:
    """What reference and critic give, where they are there."""
    reference = set() if algorithm.reference is None else {"reference"}
    return reference if algorithm.critic is None else reference | {algorithm.critic.fills}
