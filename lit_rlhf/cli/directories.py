"""Run directories below `runs/`: which are used, how they are numbered, and what they record."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

RUNS = Path("runs")
RECORD = Path("given") / "command.json"
"""In a run directory: what a run without a name was called after, and the command lines of its starts."""
FOLDERS = ("checkpoints", "parts", "given")
LEFT_OVER = ("events.out.tfevents", "hparams.yaml")
"""What loggers write before the data are read."""


def run_of(checkpoint: Path) -> str | None:
    """The name of the run that a checkpoint lies in; None where it lies in no run."""
    folder = checkpoint.resolve().parent
    if folder.name != "checkpoints" or not folder.parent.is_relative_to(RUNS.resolve()):
        return None
    return folder.parent.relative_to(RUNS.resolve()).as_posix()


def config_of(name: str | None, asked: str | None) -> Path | None:
    """The configuration of the run that is named, or whose checkpoint is asked for; None where there is none.

    Args:
        name: from `--run=NAME`.
        asked: `--ckpt_path`.
    """
    if asked is None or name is None and asked in ("last", "best"):
        return None
    own = RUNS / name if name is not None else Path(asked.removesuffix(":last").removesuffix(":best"))
    folder = own.parents[1] if own.suffix == ".ckpt" and own.parent.name == "checkpoints" else own
    return folder / "config.yaml" if (folder / "config.yaml").is_file() else None


def is_used(folder: Path) -> bool:
    """Whether a directory has files of a run; runs below it are others."""
    if not folder.exists():
        return False
    return not folder.is_dir() or any(
        path.name in FOLDERS or path.is_file() and not path.name.startswith(LEFT_OVER) for path in folder.iterdir()
    )


def numbered(after: str) -> list[str]:
    """The runs that are called after this, `after`, `after-2`, `after-3`, ..., in order."""
    return [
        path.relative_to(RUNS).as_posix() for number, path in _beside(after)
        if (is_used(path) if number == 1 else called_after(path) == after)
    ]


def free_name(after: str) -> str:
    """`after`, or the first `after-N` above all that are there."""
    highest = max((number for number, _ in _beside(after)), default=0)
    return after if highest == 0 else f"{after}-{highest + 1}"


def called_after(folder: Path) -> str | None:
    """What a run without a name of its own was called after, by its record."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))["after"]
    return None


def started(folder: Path, after: str | None, arguments: Sequence[str]) -> str:
    """The record of a run with one more start in it, as JSON."""
    starts = []
    with contextlib.suppress(OSError, ValueError):
        starts = json.loads((folder / RECORD).read_text(encoding="utf-8"))["commands"]
    after = called_after(folder) if starts else after
    return json.dumps({"after": after, "commands": [*starts, list(arguments)]}, indent=2) + "\n"


def _beside(after: str) -> list[tuple[int, Path]]:
    """The paths `after` (1) and `after-N` (N) below `runs/`, in order."""
    place = RUNS / after
    pattern = re.compile(re.escape(place.name) + r"(?:-([1-9]\d*))?")
    there = place.parent.iterdir() if place.parent.is_dir() else ()
    return sorted((int(match[1] or 1), path) for path in there if (match := pattern.fullmatch(path.name)))
