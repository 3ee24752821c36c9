"""How a command ends: what is printed of an exception, and the exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator

from lit_rlhf.errors import InputError

DONE, FAILED, REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def ending(run: Callable[[], None]) -> int:
    """Runs a command and turns whatever comes out of it into an exit code and, at most, lines on standard error."""
    try:
        run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else DONE if error.code is None else FAILED
    except Exception as error:
        refused = next((cause for cause in causes(error) if isinstance(cause, InputError)), None)
        if refused is None:
            traceback.print_exc()
            return FAILED
        print("\n".join(getattr(refused, "lines", (str(refused),))), file=sys.stderr)
        return REFUSED
    return DONE


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__
