"""The name of a run, its directory and its checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_rlhf.errors import InputError

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """Where a command writes, and the checkpoint that it starts from."""

    name: str
    checkpoint: Path | None = None

    @property
    def folder(self) -> Path:
        return RUNS / self.name


def decide(name: str | None, files: Sequence[Path], ckpt_path: str | None) -> Run:
    base = name or (files[-1].stem if files else "run")
    if ckpt_path == "last":
        last = _numbered(base)[-1:] if name is None else [base]
        run = Run(last[0] if last else base)
        checkpoint = run.folder / "checkpoints" / "last.ckpt"
        if not checkpoint.exists():
            print(f"{run.folder}: no checkpoint yet, starting")
            return run
        return Run(run.name, checkpoint)
    if name is not None and (RUNS / name).exists() and ckpt_path is None:
        raise InputError(f"--run={name}: {RUNS / name} is there already; --ckpt_path last continues it, --run=OTHER starts another")
    if name is None:
        taken = _numbered(base)
        base = base if not taken else f"{base}-{_number(taken[-1]) + 1}"
        print(f"run: {RUNS / base}")
    return Run(base, Path(ckpt_path) if ckpt_path else None)


def _numbered(base: str) -> list[str]:
    """The runs `base`, `base-2`, `base-3`, ... that there are, in order."""
    pattern = re.compile(re.escape(Path(base).name) + r"(-\d+)?")
    found = [path.name for path in (RUNS / base).parent.glob("*") if pattern.fullmatch(path.name)]
    return sorted(found, key=_number)


def _number(name: str) -> int:
    match = re.search(r"-(\d+)$", name)
    return int(match[1]) if match else 1
