"""What a resumed run takes of its checkpoint's optimizer, and what of the present composition: what was changed wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from lit_rlhf.errors import InputError


def settings_of(optimizer: Optimizer) -> dict[str, Any]:
    """The class of an optimizer and the settings of its groups, as they are before a schedule moves them."""
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return {"class": type(optimizer).__name__, "groups": groups}


def apply_changes(
    optimizer: Optimizer, schedulers: Sequence[Any], before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Gives a restored optimizer the settings that differ between `before`, of the checkpoint, and `now`.

    A learning rate is scaled, so that a schedule goes on from where it stood.

    Raises:
        InputError: the checkpoint is of another class of optimizer, whose state this one cannot go on with.
    """
    if before["class"] != now["class"]:
        raise InputError(
            f"model.optimizer.class_path: the checkpoint is of {before['class']}, and {now['class']} cannot go on with its state; "
            "resume with the same class, or start a new run from the weights, naming this one as its model"
        )
    for index, (group, old, new) in enumerate(zip(optimizer.param_groups, before["groups"], now["groups"], strict=True)):
        changed = {key: value for key, value in new.items() if key in old and old[key] != value}
        if "lr" in changed and group.get("initial_lr", old["lr"]) == old["lr"]:
            _move(group, schedulers, index, old["lr"], new["lr"])
        group.update({key: value for key, value in changed.items() if key != "lr"})


def _move(group: dict[str, Any], schedulers: Sequence[Any], index: int, old: float, new: float) -> None:
    group["lr"] = group["lr"] * (new / old) if old else new
    if "initial_lr" in group:
        group["initial_lr"] = new
    for scheduler in schedulers:
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs[index] = new
