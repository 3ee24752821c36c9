"""The name of a run, its directory `runs/NAME`, and the checkpoint that it starts from."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lit_rlhf.errors import InputError

RUNS = Path("runs")
RECORD = Path("given") / "command.json"
"""In a run directory: what a run without a name was called after, and the command lines of its starts."""

FOLDERS = ("checkpoints", "parts", "given")
LEFT_OVER = ("events.out.tfevents", "hparams.yaml")
"""What loggers write before the data are read."""


@dataclass(frozen=True)
class Run:
    """What a command reads and writes."""

    name: str
    checkpoint: Path | None = None
    after: str | None = None
    """What it was called after, where no name was given."""
    fresh: bool = False
    """It must have a directory of its own."""
    note: str = ""
    """What a user should know of the choice."""

    @property
    def folder(self) -> Path:
        return RUNS / self.name


@dataclass(frozen=True)
class Request:
    """What a command line says of its run."""

    command: str
    arguments: tuple[str, ...]
    name: str | None
    """From `--run=NAME` or the key `run`."""
    files: tuple[Path, ...]
    asked: str | None
    """`--ckpt_path`."""
    place: Callable[[str], str] = field(default=str, compare=False)
    """Where a key was set, for messages."""

    def at(self, key: str) -> str:
        """Where a key was set and, where the place does not say it, which: `dpo.yaml:2: run`, `--run=mine`."""
        place = self.place(key)
        return place if place.startswith("-") else f"{place}: {key}"

    @property
    def after(self) -> str:
        """What the run is called, or called after."""
        return self.name or (self.files[-1].stem if self.files else "run")

    def line(self, *more: str) -> str:
        """The command line with more arguments, those it had of the same keys left out."""
        keys = {argument.partition("=")[0].split()[0] for argument in more}
        kept, waiting = [], list(self.arguments)
        while waiting:
            argument = waiting.pop(0)
            key, equals, _ = argument.partition("=")
            if key not in keys:
                kept.append(argument)
            elif not equals and waiting:
                waiting.pop(0)
        return shlex.join(["python", "-m", "lit_rlhf", self.command, *kept, *(word for part in more for word in part.split())])


def decide(request: Request) -> Run:
    """The run of a command; nothing is written.

    A new run may not have the name of one that is there, and without a name takes the next free number. `last` and
    `best` are checkpoints of the named run, or of the highest number; `fit` starts where there is no last one.

    Raises:
        InputError: the name is taken or no name, or there is no such checkpoint.
    """
    _refuse_bad_name(request)
    if request.asked is None:
        return _new(request) if request.command in ("fit", "predict") else Run(request.after)
    own = [request.name] if request.name else numbered(request.after)
    if request.asked in ("last", "best"):
        return _own(request, own[-1] if own else request.after)
    checkpoint = find(request.asked, request.at("ckpt_path"))
    home = run_of(checkpoint)
    if home is not None and (home in own or request.name is None and request.command != "fit"):
        return Run(home, checkpoint, note=f"run: {RUNS / home}, from {checkpoint}")
    return _new(request, checkpoint) if request.command in ("fit", "predict") else Run(request.after, checkpoint)


def _own(request: Request, name: str) -> Run:
    """The run `name`, from its own last or best checkpoint."""
    folder, after = RUNS / name, None if request.name else request.after
    if request.asked == "last":
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            return Run(name, checkpoint, after, note=f"run: {folder}, from {checkpoint}")
        if request.command == "fit":
            return Run(name, None, after, note=f"run: {folder}; there is no checkpoint yet, so it starts")
    return Run(name, find(f"{folder}:{request.asked}", request.at("ckpt_path")), after)


def _new(request: Request, checkpoint: Path | None = None) -> Run:
    """A run whose directory is not used."""
    if request.name is None:
        name = free_name(request.after)
        return Run(name, checkpoint, request.after, True, f"run: {RUNS / name}")
    if is_used(RUNS / request.name):
        other = free_name(request.name)
        raise InputError(
            f"{request.at('run')}: {RUNS / request.name} has a run already\n"
            f"  this continues it:      {request.line('--ckpt_path last')}\n"
            f"  this starts another:    {request.line(f'--run={other}')}"
        )
    return Run(request.name, checkpoint, None, True, f"run: {RUNS / request.name}")


def _refuse_bad_name(request: Request) -> None:
    if request.name is not None and not re.fullmatch(r"[\w+=,][\w.+=,-]*(/[\w+=,][\w.+=,-]*)*", request.name):
        raise InputError(
            f"{request.at('run')}: {request.name!r} is no name of a run; expected letters, digits and . _ - + = , in one "
            "or more parts with / between them"
        )


def find(asked: str, place: str) -> Path:
    """The checkpoint that `--ckpt_path` names: a file, `RUN`, `RUN:last` or `RUN:best`.

    Raises:
        InputError: there is none.
    """
    from lit_rlhf.components.runs import find_checkpoint, is_run

    if Path(asked).is_file():
        return Path(asked)
    if is_run(asked):
        return find_checkpoint(asked)
    near = sorted(str(path) for path in Path(asked).parent.glob("*.ckpt")) if Path(asked).parent.is_dir() else []
    there = f"; {Path(asked).parent} has {', '.join(near[:5])}" if near else ""
    raise InputError(f"{place}: there is no checkpoint {asked}{there}; expected last, best, a file, RUN, RUN:last or RUN:best")


# ---- directories


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
    found = {_number(path.name, Path(after).name): path for path in (RUNS / after).parent.glob(f"{Path(after).name}*")}
    return [
        path.relative_to(RUNS).as_posix() for number, path in sorted(found.items())
        if number == 1 and is_used(path) or number > 1 and called_after(path) == after
    ]


def free_name(after: str) -> str:
    """`after`, or the first `after-N` above all that are there."""
    numbers = [_number(path.name, Path(after).name) for path in (RUNS / after).parent.glob(f"{Path(after).name}*")]
    highest = max(numbers, default=0)
    return after if highest == 0 else f"{after}-{highest + 1}"


def called_after(folder: Path) -> str | None:
    """What a run without a name of its own was called after, by its record."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))["after"]
    return None


def claim(request: Request) -> Run:
    """Decides, and makes the directory of a new run, so that no other process takes its name.

    Raises:
        InputError: as `decide`.
    """
    while True:
        run = decide(request)
        if not run.fresh or run.after is None:
            return run
        with contextlib.suppress(FileExistsError):
            run.folder.mkdir(parents=True)
            return run


def release(run: Run) -> None:
    """Takes away a directory that was made for a run which did not begin."""
    folder = run.folder
    if run.fresh and not is_used(folder):
        for path in folder.glob("*") if folder.is_dir() else ():
            if path.name.startswith(LEFT_OVER):
                path.unlink()
    while folder != RUNS.parent:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _number(name: str, base: str) -> int:
    """1 for `base`, N for `base-N`, else 0."""
    match = re.fullmatch(re.escape(base) + r"(?:-([1-9]\d*))?", name)
    return 0 if match is None else int(match[1] or 1)


def started(arguments: Sequence[str], run: Run) -> str:
    """The record of a run with one more start in it, as JSON."""
    starts = []
    with contextlib.suppress(OSError, ValueError):
        starts = json.loads((run.folder / RECORD).read_text(encoding="utf-8"))["commands"]
    after = called_after(run.folder) if starts else run.after
    return json.dumps({"after": after, "commands": [*starts, list(arguments)]}, indent=2) + "\n"
