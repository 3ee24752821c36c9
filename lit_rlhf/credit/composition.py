"""Do the steps fit each other and the loss? Refused when a composition is built, in a sentence that names the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import AgainstBehaviour, LossHead, Prior, Sum, Wrapper

MADE = frozenset({"advantages", "returns"})
REWARDS = frozenset({"reward", "token_reward"})


def refuse_disorder(credit: Sequence[CreditStep]) -> None:
    """Raises: InputError: a step reads advantages that are not there yet, makes them again, or changes rewards too late."""
    maker = None
    for index, step in enumerate(credit):
        name, place = type(step).__name__, f"model.credit.{index}"
        if "advantages" in step.needs and maker is None:
            raise InputError(f"{place}: {name} changes advantages, and no step before it makes them; put one there, as GAE")
        if maker is not None and step.gives & REWARDS:
            raise InputError(f"{place}: {name} changes the reward after {maker} has made advantages of it; put it before")
        if "advantages" in step.gives - step.needs:
            if maker is not None:
                raise InputError(f"{place}: {name} makes the advantages that {maker} has made already; keep one of them")
            maker = name


def refuse_unread(credit: Sequence[CreditStep], loss: LossHead) -> None:
    """Raises: InputError: the loss reads advantages or returns that no step makes, or none of those that steps make."""
    made = frozenset().union(*(step.gives for step in credit))
    for need in sorted((loss.needs & MADE) - made):
        raise InputError(f"model.credit: {type(_reader(loss, need)).__name__} reads {need}, and no step makes them; add one, such as GAE")
    if loss.needs & MADE:
        return
    for index, step in enumerate(credit):
        if step.gives & (MADE | {"token_reward"}):
            raise InputError(
                f"model.credit.{index}: {type(step).__name__} works on advantages, and {type(loss).__name__} reads none; leave "
                "the step out, or choose a head of advantages such as ClippedSurrogate"
            )


def _reader(loss: LossHead, need: str) -> LossHead:
    """The head inside of sums and wrappers that reads a field."""
    inner = loss.terms if isinstance(loss, Sum) else (loss.head,) if isinstance(loss, Wrapper) else ()
    return next((_reader(head, need) for head in inner if need in head.needs), loss)


def refuse_double_kl(credit: Sequence[CreditStep], loss: LossHead) -> None:
    """Raises: InputError: the KL to the reference is in the reward and in the loss."""
    place = next((index for index, step in enumerate(credit) if isinstance(step, KLInReward)), None)
    if place is None:
        return
    for head in anchored(loss):
        raise InputError(
            f"model.credit.{place}: the KL to the reference is in the reward (KLInReward) and in the loss ({type(head).__name__}), and would count "
            "twice; keep one of them, or hide the reference from the head with Prior"
        )


def anchored(loss: LossHead) -> Iterator[LossHead]:
    """The heads of a loss that hold the policy to the reference, where there is one."""
    if isinstance(loss, Sum):
        for term in loss.terms:
            yield from anchored(term)
    elif isinstance(loss, (Prior, AgainstBehaviour)):
        return
    elif isinstance(loss, Wrapper):
        yield from anchored(loss.head)
    elif "reference" in loss.needs or loss.family in ("RA", "RDA", "PRA") or _shapes_its_reward(loss):
        yield loss


def _shapes_its_reward(head: LossHead) -> bool:
    """A head of given rewards that takes tau log(pi/u) off them itself."""
    return "reward" in head.needs and getattr(head, "tau", 0.0) > 0
