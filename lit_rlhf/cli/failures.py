"""Exceptions of others, told in a sentence."""

from __future__ import annotations

import argparse
import contextlib
import errno
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from lit_rlhf.cli.endings import TERMINATED, cause
from lit_rlhf.cli.ranks import is_first
from lit_rlhf.cli.runs import Run
from lit_rlhf.config import Composed, ConfigErrors
from lit_rlhf.errors import InputError, RunFailed

SAID = (ValueError, OSError, ImportError, MisconfigurationException)
"""What constructors raise of what they were given; anything else is a mistake in the code and keeps its traceback."""
MOST = 300
"""Characters of a list of weights that are shown."""
NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|Unable to allocate", re.IGNORECASE)

PEER_GONE = re.compile(r"Connection (closed|reset) by peer|remote process (has )?(exited|terminated)", re.IGNORECASE)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Parsing and constructing: an InputError, or what was raised without jsonargparse's own around it."""
    try:
        yield
    except InputError:
        raise
    except argparse.ArgumentError as error:
        raise InputError(_parsed(str(error))) from original(error)
    except Exception as error:
        inner = original(error)
        if isinstance(inner, InputError):
            raise inner from None
        if isinstance(inner, SAID):
            raise InputError(f"{_constructor(inner)}: {_line(str(inner))}") from inner
        raise inner from None


def original(error: BaseException) -> BaseException:
    """What a constructor raised: the cause, while the innermost frame is jsonargparse's."""
    while error.__cause__ is not None and _innermost(error).startswith("jsonargparse"):
        error = error.__cause__
    return error


@contextlib.contextmanager
def located(composed: Composed) -> Iterator[None]:
    """Puts the place that set a key before a sentence that begins with the key."""
    try:
        yield
    except InputError as error:
        key = re.match(r"((?:model|data|trainer)(?:\.\w+)+): ", str(error))
        if key is None or isinstance(error, ConfigErrors):
            raise
        place = composed.place(key[1])
        if not _is_of(place, key[1]):
            raise
        sentence = str(error).removeprefix(key[0]) if place.startswith("-") else str(error)
        raise InputError(f"{place}: {sentence}") from error


def _is_of(place: str, key: str) -> bool:
    """Whether an override is of this key, of one above it or of one below; every line of a file is."""
    set_there = place.lstrip("-").partition("=")[0].split()[0]
    return not place.startswith("-") or f"{key}.".startswith(f"{set_there}.") or set_there.startswith(f"{key}.")


@contextlib.contextmanager
def explained(trainer: Trainer, data: Any, run: Run) -> Iterator[None]:
    """Running: interruptions get their exit codes, known failures their sentence."""
    try:
        yield
    except SIGTERMException:
        _stopped(run, "terminated")
        raise SystemExit(TERMINATED if is_first() else 0) from None
    except SystemExit:
        if not trainer.interrupted:
            raise
        _stopped(run, "interrupted")
        if is_first():  # the first process kills the run when another one ends with an error
            raise KeyboardInterrupt from None
    except Exception as error:
        known = _known(error, data, run)
        if known is None or cause(error, InputError) is not None:
            error.add_note(kept(run))
            raise
        raise known from error


def _known(error: Exception, data: Any, run: Run) -> Exception | None:
    """What is raised in the place of an exception that has a sentence."""
    text = _line(str(error))
    if isinstance(error, RunFailed):
        return RunFailed(f"{error}\n{kept(run)}")
    if isinstance(error, MemoryError) or isinstance(error, RuntimeError) and NO_MEMORY.search(text):
        tokens = getattr(data, "micro_batch_tokens", 0)
        return RunFailed(
            f"out of memory with data.micro_batch_tokens={tokens}. A smaller one changes no result, only memory and "
            f"time: --data.micro_batch_tokens={tokens // 2}"
        )
    if isinstance(error, RuntimeError) and PEER_GONE.search(text):
        return RunFailed("another process of the run has ended; what it says is the reason")
    if isinstance(error, FloatingPointError):
        return RunFailed(text)
    if isinstance(error, OSError) and error.errno in NO_WRITING:
        return RunFailed(f"{error.strerror}: {error.filename or 'a file of the run'}")
    of_lightning = isinstance(error, ValueError) and _innermost(error).startswith("lightning.")
    if isinstance(error, MisconfigurationException) or of_lightning:
        return InputError(f"trainer: {text}")
    if isinstance(error, RuntimeError) and text.startswith("Error(s) in loading state_dict"):
        return InputError(f"ckpt_path: the checkpoint is of another model: {text.partition(': ')[2][:MOST]}")
    return None


def kept(run: Run) -> str:
    """Which checkpoint there is, and what to do with it."""
    last = run.folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return f"{run.folder} has no checkpoint yet"
    return f"{last} is kept; the same command with --ckpt_path last continues from it"


def _stopped(run: Run, how: str) -> None:
    if is_first():
        print(f"{how}; {kept(run)}", file=sys.stderr)


def _parsed(message: str) -> str:
    """jsonargparse's answer without the types that it tried."""
    noise = ("Does not validate", "Subtypes:", "Given value", "Errors:", "- Expected a <class 'NoneType'>")
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.strip().startswith(noise)]
    return _line(re.sub(r'Parser key "([^"]+)":', r"\1:", " ".join(line.removeprefix("- ") for line in lines)))


def _line(text: str) -> str:
    return " ".join(text.split())


def _innermost(error: BaseException) -> str:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "")


def _constructor(error: BaseException) -> str:
    """The class whose constructor raised."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    made = [code.co_qualname.rpartition(".")[0] for code in codes if code.co_name == "__init__"]
    return next((name for name in made if not name.endswith(("Line", "Parts", "LightningCLI"))), "configuration")
