"""What of a record a composition reads: pairs, rewards, labels, demonstrations or prompts, and which formats have them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lit_rlhf.data.collation import Signal
from lit_rlhf.data.formats import Format
from lit_rlhf.data.records import Completion, Preference, Record, RowError
from lit_rlhf.data.rewards import RewardStep, transformed
from lit_rlhf.errors import InputError

Pairs = Literal["all", "best_worst", "adjacent"]
"""Which pairs of K scored responses: every two, the best with the worst, each with the next in the order of reward."""
Labels = Literal["soft", "hard"]
"""How their rewards become a preference: sigma(gap), or 1 for the higher (1/2 where they are equal)."""


@dataclass(frozen=True)
class Rules:
    """How the rewards of a file are read.

    Args:
        transform: steps done to every reward, in order.
        source_clip: the ends of the file's own scale, before `transform`. A reward there has a sign but no size: pairs
            with both ends there are dropped and counted.
        pairs: which pairs of scored responses.
        labels: what their probability is.
        label_above: responses with a (transformed) reward above it are desirable, where a composition reads labels.
    """

    transform: Sequence[RewardStep] = ()
    source_clip: tuple[float, float] | None = None
    pairs: Pairs = "all"
    labels: Labels = "soft"
    label_above: float | None = None


@dataclass(frozen=True)
class Selection:
    """What of a record is read."""

    record: Record | None
    """None: nothing, for the reason `dropped`."""
    dropped: str = ""
    clipped_pairs: int = 0
    """Pairs left out because both ends stand at the source's clip."""


def signals_of(format: Format, columns: Collection[str] = (), label_above: float | None = None) -> frozenset[Signal]:
    """The signals that rows of this format and these columns can give."""
    columns = frozenset(columns)
    found: set[Signal] = set() if format == "prompts" else {"demonstration"}
    found |= set() if format == "text" else {"prompt"}
    if format == "preference":
        scored = {"reward_chosen", "reward_rejected"} <= columns
        found |= {"preference", "label"} | ({"reward"} if scored else set())
        found |= {"gap"} if scored or columns & {"gap", "probability"} else set()
    if format == "scored":
        found |= {"reward", "gap", "preference"} | (
            {"label"} if label_above is not None or columns & {"label", "responses"} else set()
        )
    if format == "unpaired":
        found |= {"label"}
    return frozenset(found)


ALONE = "one response, no pair"
"""Why a row is left out where pairs are read."""
_WORDS: dict[Signal, str] = {
    "gap": "pairs with reward differences",
    "preference": "pairs",
    "reward": "rewards",
    "label": "labels (desirable or not)",
    "demonstration": "completions",
    "prompt": "prompts",
}
_WITH: dict[Signal, str] = {
    "gap": "scored; preference with reward_chosen and reward_rejected, gap or probability",
    "preference": "preference; scored",
    "reward": "scored; preference with reward_chosen and reward_rejected",
    "label": "unpaired; preference; scored with label in its responses, or with data.label_above",
    "demonstration": "every format but prompts",
    "prompt": "every format but text",
}


def check_signal(
    signal: Signal, format: Format, columns: Collection[str], label_above: float | None, place: str
) -> None:
    """Raises: InputError: this format does not have what the composition reads; says which have it."""
    if signal not in signals_of(format, columns, label_above):
        raise InputError(
            f"{place}: the format is {format} (columns {', '.join(sorted(columns))}), "
            f"and the loss reads {_WORDS[signal]}. Formats that have them: {_WITH[signal]}"
        )


def select(record: Record, signal: Signal, rules: Rules) -> Selection:
    """The part of a record that a composition reads: its completions with their rewards or labels, its pairs, or its prompt.

    Raises:
        RowError: this row lacks the signal that its format has.
    """
    return _SELECT[signal](record, rules)


def _pairs(record: Record, rules: Rules) -> Selection:
    return Selection(record) if record.preferences else _scored_pairs(record, rules)


def _gaps(record: Record, rules: Rules) -> Selection:
    if not record.preferences:
        return _scored_pairs(record, rules)
    preferences = tuple(dataclasses.replace(p, gap=_gap(record, p, rules)) for p in record.preferences)
    return Selection(dataclasses.replace(record, preferences=preferences))


def _gap(record: Record, preference: Preference, rules: Rules) -> float:
    """As it is given, else from the ends' rewards, else logit(probability): the Bradley-Terry gap."""
    ends = [record.completions[index].reward for index in (preference.chosen, preference.rejected)]
    if preference.gap is not None:
        return preference.gap
    if None not in ends:
        return transformed(ends[0], rules.transform) - transformed(ends[1], rules.transform)
    if 0 < preference.probability < 1:
        return math.log(preference.probability) - math.log1p(-preference.probability)
    raise RowError(
        f"no reward difference: found probability {preference.probability:g} alone, expected gap, or reward_chosen and "
        "reward_rejected, or a probability between 0 and 1"
    )


def _scored_pairs(record: Record, rules: Rules) -> Selection:
    raw = _rewards(record)
    if len(raw) < 2:
        return Selection(None, ALONE)
    rewards = [transformed(reward, rules.transform) for reward in raw]
    edges = _edges(rewards, rules.pairs)
    at_clip = [
        rules.source_clip is not None and not rules.source_clip[0] < reward < rules.source_clip[1] for reward in raw
    ]
    kept = [(a, b) for a, b in edges if not (at_clip[a] and at_clip[b])]
    dropped = len(edges) - len(kept)
    if not kept:
        return Selection(None, "every pair at the source's clip", dropped)
    used = sorted({end for edge in kept for end in edge})
    place = {end: index for index, end in enumerate(used)}
    completions = tuple(
        dataclasses.replace(record.completions[end], reward=rewards[end], clipped=at_clip[end]) for end in used
    )
    preferences = tuple(_preference(place[a], place[b], rewards[a] - rewards[b], rules.labels) for a, b in kept)
    return Selection(
        dataclasses.replace(record, completions=completions, preferences=preferences), clipped_pairs=dropped
    )


def _edges(rewards: Sequence[float], pairs: Pairs) -> list[tuple[int, int]]:
    """The better end first; of equals, the one that comes first."""
    order = sorted(range(len(rewards)), key=lambda index: (-rewards[index], index))
    if pairs == "all":
        return list(itertools.combinations(order, 2))
    return [(order[0], order[-1])] if pairs == "best_worst" else list(itertools.pairwise(order))


def _preference(chosen: int, rejected: int, gap: float, labels: Labels) -> Preference:
    hard = 1.0 if gap > 0 else 0.5
    return Preference(chosen, rejected, hard if labels == "hard" else 1 / (1 + math.exp(-gap)), gap)


def _rewards(record: Record) -> list[float]:
    rewards = [completion.reward for completion in record.completions]
    if None in rewards:
        which = f" of response {rewards.index(None)}" if len(rewards) > 1 else ""
        raise RowError(f"column reward: missing{which}, expected a number")
    return rewards


def _rewarded(record: Record, rules: Rules) -> Selection:
    rewards = [transformed(reward, rules.transform) for reward in _rewards(record)]
    return _with(record, (dataclasses.replace(c, reward=r) for c, r in zip(record.completions, rewards, strict=True)))


def _labelled(record: Record, rules: Rules) -> Selection:
    labels = [completion.label for completion in record.completions]
    if None in labels and rules.label_above is not None:
        labels = [float(transformed(reward, rules.transform) > rules.label_above) for reward in _rewards(record)]
    if None in labels:
        raise RowError("column label: missing, expected true or false")
    return _with(
        record, (dataclasses.replace(c, label=label) for c, label in zip(record.completions, labels, strict=True))
    )


def _demonstrated(record: Record, rules: Rules) -> Selection:
    """The chosen ends of pairs, the desirable of labelled completions, the best of scored ones, or all."""
    completions = record.completions
    if all(completion.label is not None for completion in completions):
        good = tuple(completion for completion in completions if completion.label == 1.0)
        return _with(record, good) if good else Selection(None, "label false, no demonstration")
    if all(completion.reward is not None for completion in completions):
        return _with(record, (max(completions, key=lambda completion: completion.reward),))
    return _with(record, completions)


def _asked(record: Record, rules: Rules) -> Selection:
    """The prompt alone."""
    if isinstance(record.prompt, tuple) and not record.prompt:
        raise RowError("column messages: the assistant speaks first, expected a message to answer before its last turn")
    return _with(record, ())


def _with(record: Record, completions: Iterable[Completion]) -> Selection:
    return Selection(dataclasses.replace(record, completions=tuple(completions), preferences=()))


_SELECT = {
    "gap": _gaps,
    "preference": _pairs,
    "reward": _rewarded,
    "label": _labelled,
    "demonstration": _demonstrated,
    "prompt": _asked,
}
