"""How a command ends: what is printed of an exception, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

from lit_rlhf.cli.ranks import is_first, is_first_of_machine, rank_name
from lit_rlhf.errors import InputError, RunFailed

Kind = TypeVar("Kind", bound=BaseException)
DONE, FAILED, REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def ending(run: Callable[[], None]) -> int:
    """Runs a command and turns whatever comes out of it into an exit code and lines on standard error."""
    try:
        code = _ended(run)
        sys.stdout.flush()
    except BrokenPipeError:
        return _without_reader()
    return code


def _ended(run: Callable[[], None]) -> int:
    try:
        run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as error:
        return _code(error)
    except Exception as error:
        if (refused := cause(error, InputError)) is not None:
            _tell(getattr(refused, "lines", None) or [str(refused)])
            return REFUSED
        if (failed := cause(error, RunFailed)) is not None:
            print(str(failed) if is_first() else f"{rank_name()}: {failed}", file=sys.stderr)
            return FAILED
        if cause(error, BrokenPipeError) is not None:
            return _without_reader()
        traceback.print_exception(error)
        return FAILED
    return DONE


def cause(error: BaseException, kind: type[Kind]) -> Kind | None:
    """The first exception of a kind among an exception and what it was raised from."""
    return next((found for found in causes(error) if isinstance(found, kind)), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _code(error: SystemExit) -> int:
    if isinstance(error.code, str):
        _tell([error.code])
    return error.code if isinstance(error.code, int) else DONE if error.code is None else FAILED


def _tell(lines: list[str]) -> None:
    """Once per machine: its processes read the same files."""
    if is_first_of_machine():
        print("\n".join(lines if is_first() else [f"{rank_name()}: {line}" for line in lines]), file=sys.stderr)


def _without_reader() -> int:
    """Whoever read standard output has gone (`| head`): Python must not find that out again while it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
