"""A run of ours named as a model: where its checkpoint, its description and its weights are."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.errors import InputError

KINDS = ("last", "best")


def split_run(source: str) -> tuple[Path, str | None]:
    """`runs/x:best` -> (runs/x, "best"); without a suffix the kind is None."""
    head, colon, kind = source.rpartition(":")
    return (Path(head), kind) if colon and kind in KINDS else (Path(source), None)


def is_run(source: str) -> bool:
    """Whether a source names a run directory of ours, be it one that does not exist.

    It does where it ends in `:last` or `:best`, where the folder has parts or checkpoints (or a `config.yaml` and no
    `config.json`: a run that has just begun), and where nothing is there but it lies in `runs/` or beside runs.
    """
    folder, kind = split_run(source)
    if kind is not None or _is_run_folder(folder):
        return True
    if folder.exists() or len(folder.parts) < 2:
        return False
    return folder.parts[0] == "runs" or bool(_runs_beside(folder))


def find_checkpoint(run: str) -> Path:
    """The checkpoint that `RUN` (the best where one is monitored, else the last), `RUN:last` or `RUN:best` means.

    Raises:
        InputError: no such run, no checkpoint in it, or none of this kind.
    """
    folder, kind = _existing(run)
    found = folder / "checkpoints"
    best = sorted(found.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
    last = [path for path in (found / "last.ckpt",) if path.exists()]
    if kind == "best" and not best and last:
        raise InputError(
            f"{run}: the run has no best checkpoint, because it monitors no metric or has not validated yet; "
            f"{folder}:last names its last one"
        )
    candidates = {"best": best, "last": last, None: best or last}[kind]
    if not candidates:
        raise InputError(f"{folder}: the run has no checkpoint yet; let it run to its first one")
    return candidates[-1]


def part_description(run: str, part: str | None = None) -> Path:
    """The folder with the configuration and the tokenizer of one part of a run; of `model_part` when None.

    Raises:
        InputError: the run has no such part.
    """
    folder, _ = _existing(run)
    described = folder / "parts" / (part or model_part(run))
    if not described.is_dir():
        raise InputError(f"{folder}: the run has no part {described.name!r}; it has {_parts(folder)}")
    return described


def model_part(run: str) -> str:
    """The part of a run that a model is taken from: its actor, else its reward model.

    Raises:
        InputError: the run has neither.
    """
    folder, _ = _existing(run)
    for part in ("actor", "reward"):
        if (folder / "parts" / part).is_dir():
            return part
    raise InputError(
        f"{folder}: the run has no model; its parts are {_parts(folder)}. They are written when training starts"
    )


def read_checkpoint(run: str) -> dict[str, Any]:
    """A run's checkpoint; tensors are read from the disk when they are used.

    Raises:
        InputError: no such run, or no checkpoint in it.
    """
    return torch.load(find_checkpoint(run), map_location="cpu", weights_only=True, mmap=True)


def load_part(run: str, prefix: str) -> dict[str, Tensor]:
    """The weights of a run's checkpoint whose names begin with `prefix`, without it; no other is read.

    Raises:
        InputError: no checkpoint, or no such weight in it.
    """
    state = read_checkpoint(run)["state_dict"]
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not weights:
        parts = ", ".join(sorted({name.split(".")[0] for name in state})) or "nothing"
        raise InputError(f"{find_checkpoint(run)}: no weight begins with {prefix!r}; it has weights of {parts}")
    return weights


def _existing(run: str) -> tuple[Path, str | None]:
    folder, kind = split_run(run)
    if not folder.is_dir():
        names = [path.name for path in _runs_beside(folder)]
        near = difflib.get_close_matches(folder.name, names, n=1)
        there = f"; {folder.parent} has {', '.join(sorted(names)[:10])}" if names else ""
        raise InputError(f"{folder}: no such run{f'; did you mean {folder.parent / near[0]}?' if near else there}")
    return folder, kind


def _is_run_folder(folder: Path) -> bool:
    begun = (folder / "config.yaml").is_file() and not (folder / "config.json").is_file()
    return begun or any((folder / name).is_dir() for name in ("parts", "checkpoints"))


def _runs_beside(folder: Path) -> list[Path]:
    return [path for path in folder.parent.glob("*") if _is_run_folder(path)] if folder.parent.is_dir() else []


def _parts(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in (folder / "parts").glob("*"))) or "none"
