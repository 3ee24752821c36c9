"""A run of ours named as a model: where its checkpoint, its description and its weights are."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from torch import Tensor

from lit_rlhf.errors import InputError

KINDS = ("last", "best")


def split_run(source: str) -> tuple[Path, str | None]:
    """`runs/x:best` -> (runs/x, "best"); without a suffix the kind is None."""
    head, colon, kind = source.rpartition(":")
    return (Path(head), kind) if colon and kind in KINDS else (Path(source), None)


def is_run(source: str) -> bool:
    """Whether a source names a run directory of ours."""
    folder, kind = split_run(source)
    return kind is not None or (folder / "parts").is_dir() or (folder / "checkpoints").is_dir()


def find_checkpoint(run: str) -> Path:
    """The checkpoint that `RUN` (the best where one is monitored, else the last), `RUN:last` or `RUN:best` means.

    Raises:
        InputError: no such run, no checkpoint in it, or none of this kind.
    """
    folder, kind = split_run(run)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run{_nearest(folder)}")
    found = folder / "checkpoints"
    best = sorted(found.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
    last = [path for path in (found / "last.ckpt",) if path.exists()]
    if kind == "best" and not best and last:
        raise InputError(f"{run}: the run monitors no metric, so it has no best checkpoint; {folder}:last names its last one")
    candidates = {"best": best, "last": last, None: best or last}[kind]
    if not candidates:
        raise InputError(f"{folder}: the run has no checkpoint yet; let it run to its first one")
    return candidates[-1]


def part_description(run: str, part: str) -> Path:
    """The folder with the configuration and the tokenizer of one part of a run.

    Raises:
        InputError: the run has no such part.
    """
    folder, _ = split_run(run)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run{_nearest(folder)}")
    described = folder / "parts" / part
    if not described.is_dir():
        parts = sorted(path.name for path in (folder / "parts").glob("*"))
        raise InputError(f"{folder}: the run has no part {part!r}; it has {', '.join(parts) or 'none'}")
    return described


def trunk_of(run: str) -> str:
    """The part of a run that a language model is taken from: its actor, else its reward model."""
    folder, _ = split_run(run)
    return "reward" if (folder / "parts" / "reward").is_dir() and not (folder / "parts" / "actor").is_dir() else "actor"


def load_part(run: str, prefix: str) -> dict[str, Tensor]:
    """The weights of a run's checkpoint whose names begin with `prefix`, without it."""
    path = find_checkpoint(run)
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not weights:
        raise InputError(f"{path}: no weight begins with {prefix!r}; it has {', '.join(sorted({n.split('.')[0] for n in state}))}")
    return weights


def _nearest(folder: Path) -> str:
    names = [path.name for path in folder.parent.glob("*") if path.is_dir()] if folder.parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, names, n=1)
    return f"; did you mean {folder.parent / near[0]}?" if near else ""
