"""Calls of a function in processes of their own, each killed when its time is over."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from lit_rlhf.rewards.worker import command

START = 300.0
"""Seconds in which a process has to import its function."""
Job = tuple[Sequence[Any], dict[str, Any]]
"""Arguments and keywords of a call."""


@dataclass(frozen=True)
class Failure:
    """Why a call has no result."""

    what: str
    """To follow the function's name in a sentence: `raised ValueError: no`."""
    told: str = ""
    """Its traceback."""
    cause: BaseException | None = None
    """The exception itself, where it was raised in this process."""
    apart: bool = True
    """Whether calls for each item alone would tell which it was, at no great cost."""


class Pool:
    """`size` processes that share the calls.

    Args:
        function: importable in another process.
        size: most processes.
        timeout: seconds of a call; None is no limit.
        classes: of its arguments, imported before the first call.
    """

    def __init__(
        self, function: Callable[..., Any], size: int, timeout: float | None, classes: Sequence[type] = ()
    ) -> None:
        self._function, self._timeout = pickle.dumps((function, tuple(classes))), timeout
        self._workers: list[_Worker | None] = [None] * size
        weakref.finalize(self, _end, self._workers)

    def __call__(self, jobs: Sequence[Job]) -> list[Any]:
        """The result of every call or its `Failure`, in order."""
        found: list[Any] = [None] * len(jobs)
        waiting, busy = deque(range(len(jobs))), dict[int, int]()
        while waiting or busy:
            for place in range(len(self._workers)):
                if waiting and place not in busy:
                    busy[place] = waiting.popleft()
                    self._ready(place).ask(jobs[busy[place]], self._timeout)
            for place in self._ended(busy):
                found[busy.pop(place)] = self._answer(place)
        return found

    def _ready(self, place: int) -> _Worker:
        worker = self._workers[place]
        if worker is None or worker.process.poll() is not None:
            worker = self._workers[place] = _Worker(self._function)
        return worker

    def _ended(self, busy: dict[int, int]) -> list[int]:
        """The places whose call is answered or overdue; waits for one."""
        workers = {place: self._workers[place] for place in busy}
        due = [worker.due for worker in workers.values() if worker.due is not None]
        answered = wait([w.answers for w in workers.values()], max(0.0, min(due) - time.monotonic()) if due else None)
        now = time.monotonic()
        return [place for place, w in workers.items() if w.answers in answered or (w.due is not None and w.due <= now)]

    def _answer(self, place: int) -> Any:
        worker = self._workers[place]
        if worker.answers.poll():
            try:
                result, failed = pickle.loads(worker.answers.recv_bytes())
                return result if failed is None else Failure(f"raised {failed[0]}", failed[1])
            except EOFError:
                failure = Failure(f"ended its process with exit code {worker.process.wait()}")
        else:
            failure = Failure(f"did not return within {self._timeout:g} s", apart=False)
        worker.end()
        self._workers[place] = None
        return failure


def _end(workers: Sequence[_Worker | None]) -> None:
    for worker in workers:
        if worker is not None:
            worker.end()


class _Worker:
    """One process and the two pipes to it.

    Raises:
        RuntimeError: the function cannot be imported there.
    """

    def __init__(self, function: bytes) -> None:
        its_requests, requests = os.pipe()
        answers, its_answers = os.pipe()
        self.process = subprocess.Popen(
            command(its_requests, its_answers), stdin=subprocess.DEVNULL, pass_fds=(its_requests, its_answers),
            start_new_session=True,  # an interrupt of the run is the run's to handle
        )
        os.close(its_requests)
        os.close(its_answers)
        self.requests, self.answers = Connection(requests, readable=False), Connection(answers, writable=False)
        self.due: float | None = None
        self._start(function)

    def ask(self, job: Job, timeout: float | None) -> None:
        """Begins a call."""
        with contextlib.suppress(BrokenPipeError):  # where it has ended, its answers say so
            self.requests.send_bytes(pickle.dumps(job))
        self.due = None if timeout is None else time.monotonic() + timeout

    def end(self) -> None:
        """Kills it."""
        self.process.kill()
        self.process.wait()
        self.requests.close()
        self.answers.close()

    def _start(self, function: bytes) -> None:
        try:
            self.requests.send_bytes(function)
            if not self.answers.poll(START):
                raise RuntimeError(f"a process for a reward function has not imported it after {START:g} s")
            told = self.answers.recv()
        except (EOFError, BrokenPipeError) as error:
            code = self.process.wait()
            raise RuntimeError(f"a process for a reward function ended as it began, with exit code {code}") from error
        if told is not None:
            self.end()
            raise RuntimeError(f"a process for a reward function cannot import it:\n{told}")
