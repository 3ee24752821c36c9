"""Calls of a user's function: here, in a loop of coroutines, or in processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import pickle
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.naming import path_of
from lit_rlhf.rewards.pool import Failure, Job, Pool

Caller = Callable[[Sequence[Job]], list[Any]]
"""Calls to results or failures, in order."""
GRACE = 2.0
"""Seconds that coroutines have to end once their time is over."""


def caller(
    function: Callable[..., Any], workers: int, timeout: float | None, classes: Sequence[type], place: str
) -> Caller:
    """How a function is called: coroutines together, others here, or in processes where they have a timeout or workers.

    Args:
        function: of the user.
        workers: processes; 0 is this one, unless a call has to be killed.
        timeout: seconds of a call; None is no limit.
        classes: of its arguments.
        place: to be named in errors.

    Raises:
        InputError: coroutines with workers, or a function that another process cannot import.
    """
    if is_async(function):
        if workers:
            raise InputError(
                f"{place}: {path_of(function)} is async: its calls run together in one process; set workers to 0"
            )
        return Together(function, timeout)
    if not workers and timeout is None:
        return lambda jobs: [_called(function, *job) for job in jobs]
    _refuse_unimportable(function, place)
    return Pool(function, max(1, workers), timeout, classes)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it gives a coroutine when it is called."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))


class Together:
    """Calls of a coroutine function, awaited together in one event loop that lives as long as this object."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, Any]], timeout: float | None) -> None:
        self._function, self._timeout = function, timeout
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, jobs: Sequence[Job]) -> list[Any]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        found: list[Any] = [self._late()] * len(jobs)
        whole = asyncio.run_coroutine_threadsafe(self._all(jobs, found), self._loop)
        try:
            whole.result(None if self._timeout is None else self._timeout + GRACE)
        except concurrent.futures.TimeoutError:  # a coroutine that blocks its loop, which is left to it
            self._loop = None
        return list(found)

    async def _all(self, jobs: Sequence[Job], found: list[Any]) -> None:
        async def one(place: int, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
            try:
                found[place] = await asyncio.wait_for(self._function(*arguments, **keywords), self._timeout)
            except (Exception, asyncio.CancelledError) as error:
                late = isinstance(error, TimeoutError) and self._timeout is not None
                found[place] = self._late() if late else _raised(error)

        await asyncio.gather(*(one(place, *job) for place, job in enumerate(jobs)))

    def _late(self) -> Failure:
        within = "" if self._timeout is None else f" within {self._timeout:g} s"
        return Failure(f"did not return{within}", apart=False)


def _called(function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        return _raised(error)


def _raised(error: BaseException) -> Failure:
    return Failure(f"raised {type(error).__name__}: {error}", "".join(traceback.format_exception(error)), error)


def _refuse_unimportable(function: Callable[..., Any], place: str) -> None:
    """Raises: InputError: another process cannot get it."""
    module = path_of(function).partition(".")[0]
    try:
        pickle.dumps(function)
        why = "it is of the script that runs" if module == "__main__" else ""
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        why = str(error)
    if why:
        raise InputError(
            f"{place}: {path_of(function)} cannot be called in another process, which timeout and workers need: {why}; "
            "move it into a file of its own and name it by its dotted path"
        )
