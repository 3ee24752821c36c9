"""A buffer of what earlier iterations wrote: the off-policy mode."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lit_rlhf.algorithms.pairing import Collected
from lit_rlhf.algorithms.recording import Recorder
from lit_rlhf.errors import InputError
from lit_rlhf.ranks import largest_over_ranks, world_size
from lit_rlhf.rewards.base import Response
from lit_rlhf.types import Kept, Law, PromptRecord, Rollout, Sequences, joined_rollouts


@dataclass(frozen=True)
class Group:
    """The completions of one prompt of one iteration, on the CPU, with all that is known of them."""

    rollout: Rollout
    responses: tuple[Response, ...]
    iteration: int
    place: int
    """Of the prompt in its iteration, over all ranks."""


class Replay:
    """Adds groups of earlier iterations to each new one, with the log-probs and the law that they were sampled with.

    A ratio pi / behaviour is that of the policy of today to the one that wrote the tokens; a head that truncates it
    keeps the gradient bounded. Advantages and values stay as they were credited. Every rank holds the whole buffer and
    takes its share of what is drawn, so that the number of ranks changes nothing.

    Args:
        capacity: groups kept, the newest ones.
        reuse: old groups for each new one; fewer while the buffer has less.
        seed: of which groups are drawn; each iteration draws its own, none twice.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(self, capacity: int = 1024, reuse: float = 1.0, seed: int = 0) -> None:
        if capacity < 1 or not reuse > 0:
            raise InputError(f"Replay(capacity={capacity}, reuse={reuse}): capacity is at least 1 and reuse above 0")
        self.capacity, self.reuse, self.seed = capacity, reuse, seed
        self.groups: tuple[Group, ...] = ()

    def mixed(self, collected: Collected, recorder: Recorder) -> Collected:
        """The iteration with old groups after its own ones, which join the buffer.

        Metrics: `rollout/staleness`, the mean age of a group in iterations, its own being 0, and `rollout/replayed`,
        the share of old groups.
        """
        fresh = _over_ranks(_groups(collected))
        old = self.drawn(len(fresh), collected.draw)
        self.groups = (*self.groups, *fresh)[-self.capacity :]
        start = 1 + largest_over_ranks(int(collected.index.max()), collected.index.device)
        rank = dist.get_rank() if world_size() > 1 else 0
        own = [(start + place, group) for place, group in enumerate(old) if place % world_size() == rank]
        age = sum(collected.draw - group.iteration for _, group in own)
        recorder.add("rollout/staleness", float(age), float(len(collected.index) + len(own)))
        recorder.add("rollout/replayed", float(len(own)), float(len(collected.index) + len(own)))
        return _joined(collected, own)

    def drawn(self, fresh: int, iteration: int) -> tuple[Group, ...]:
        """Old groups for so many new ones: a function of buffer, seed and iteration."""
        count = min(round(self.reuse * fresh), len(self.groups))
        if not count:
            return ()
        which = np.random.default_rng([self.seed, iteration]).choice(len(self.groups), count, replace=False)
        return tuple(self.groups[place] for place in which)

    def state_dict(self) -> dict[str, Any]:
        """The buffer as tensors, numbers and strings."""
        return {"groups": [_plain_group(group) for group in self.groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; a smaller capacity keeps the newest."""
        self.groups = tuple(_group_of(plain) for plain in state["groups"])[-self.capacity :]


def _groups(collected: Collected) -> list[Group]:
    """Those of this rank that count."""
    rollout, found = collected.rollout.to("cpu"), []
    for prompt, place in enumerate(collected.index.tolist()):
        rows = (rollout.sequences.prompt_of == prompt).nonzero()[:, 0]
        own = rollout.select(rows)
        if bool((own.sequence_weight > 0).any()):
            responses = tuple(_kept_response(collected.responses[row]) for row in rows.tolist())
            found.append(Group(own, responses, collected.draw, place))
    return found


def _over_ranks(groups: list[Group]) -> list[Group]:
    """All ranks' groups, in the order of their places."""
    if world_size() > 1:
        parts: list[Any] = [None] * world_size()
        dist.all_gather_object(parts, [_plain_group(group) for group in groups])
        groups = [_group_of(plain) for part in parts for plain in part]
    return sorted(groups, key=lambda group: group.place)


def _joined(collected: Collected, old: list[tuple[int, Group]]) -> Collected:
    """The iteration and the old groups, each at its place."""
    device = collected.rollout.reward.device
    rollout = joined_rollouts([collected.rollout, *(group.rollout.to(device) for _, group in old)])
    index = torch.cat([collected.index, collected.index.new_tensor([place for place, _ in old])])
    responses = [
        dataclasses.replace(response, group=len(collected.index) + place)
        for place, (_, group) in enumerate(old)
        for response in group.responses
    ]
    return Collected(rollout, (*collected.responses, *responses), index, collected.draw)


# ---- what a checkpoint can hold


def _kept_response(response: Response) -> Response:
    """The response as it would come back from a checkpoint: columns that JSON does not know are their texts."""
    return _response_of(_plain_response(response))


def _plain_response(response: Response) -> dict[str, Any]:
    record = json.dumps(dataclasses.asdict(response.record), default=str)
    return {**{name: getattr(response, name) for name in ("text", "ids", "finished", "group")}, "record": record}


def _response_of(plain: Mapping[str, Any]) -> Response:
    record = json.loads(plain["record"])
    prompt = record["prompt"] if isinstance(record["prompt"], str) else tuple(record["prompt"])
    return Response(**{**plain, "ids": tuple(plain["ids"]), "record": PromptRecord(**{**record, "prompt": prompt})})


def _plain_group(group: Group) -> dict[str, Any]:
    return {
        "rollout": _plain(group.rollout), "responses": [_plain_response(one) for one in group.responses],
        "iteration": group.iteration, "place": group.place,
    }


def _group_of(plain: Mapping[str, Any]) -> Group:
    responses = tuple(_response_of(one) for one in plain["responses"])
    return Group(_rollout_of(plain["rollout"]), responses, plain["iteration"], plain["place"])


def _plain(value: Any) -> Any:
    """Containers as dictionaries of their fields."""
    if not dataclasses.is_dataclass(value):
        return value
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _rollout_of(plain: Mapping[str, Any]) -> Rollout:
    law = plain["law"]
    if law is not None:
        law = Law(**{**law, "kept": None if law["kept"] is None else Kept(**law["kept"])})
    return Rollout(**{**plain, "sequences": Sequences(**plain["sequences"]), "law": law})
