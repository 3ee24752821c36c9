"""The name of a run, its directory `runs/NAME`, and the checkpoint that it starts from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lit_rlhf.cli.directories import LEFT_OVER, RUNS, free_name, is_used, numbered, run_of
from lit_rlhf.errors import InputError

_PART = r"[\w+=,][\w.+=,-]*"


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
        added = [word for argument in more for word in argument.split()]
        return shlex.join(["python", "-m", "lit_rlhf", self.command, *kept, *added])


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
    checkpoint = find(f"{folder}:{request.asked}", request.at("ckpt_path"))
    return Run(name, checkpoint, after, note=f"run: {folder}, from {checkpoint}")


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
    if request.name is not None and not re.fullmatch(f"{_PART}(/{_PART})*", request.name):
        raise InputError(
            f"{request.at('run')}: {request.name!r} is no name of a run; expected letters, digits and . _ - + = , "
            "in one or more parts with / between them"
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
    beside = sorted(path.name for path in Path(asked).parent.glob("*.ckpt"))
    there = f"; {Path(asked).parent} has {', '.join(beside[:5])}" if beside else ""
    expected = "expected last, best, a file, RUN, RUN:last or RUN:best"
    raise InputError(f"{place}: there is no checkpoint {asked}{there}; {expected}")


# ---- directories


def claim(request: Request) -> Run:
    """Decides, and makes the directory of a new run, so that no other process takes its name.

    Raises:
        InputError: as `decide`.
    """
    while True:
        run = decide(request)
        if not run.fresh or run.after is None:
            return run
        try:
            run.folder.mkdir(parents=True)
            return run
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"{run.folder}: cannot be made ({error.strerror}); runs are written below the working directory, so run the "
                "command in one that you can write to"
            ) from error


def release(run: Run) -> None:
    """Takes away a directory that was made for a run which did not begin."""
    folder = run.folder
    if run.fresh and folder.is_dir() and not is_used(folder):
        for path in folder.iterdir():
            if path.name.startswith(LEFT_OVER):
                path.unlink()
    while folder != RUNS.parent:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
