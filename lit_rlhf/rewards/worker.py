"""A process that calls one function, for who must be able to kill it. It imports what the function needs, and no more.

Its parent starts it by `command`. What crosses the two pipes is pickled: first the function and the classes of its
arguments, answered by None or by the traceback of their import; then one (arguments, keywords) for every call, answered
by (result, None) or by (None, (exception, traceback)).
It ends when the parent does.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lit_rlhf.rewards.worker import main; main()"


def command(requests: int, answers: int) -> list[str]:
    """What to run for a worker on these two ends of pipes; it finds modules where this process does."""
    folders = [folder or os.getcwd() for folder in sys.path]
    return [sys.executable, "-c", _START, json.dumps(folders), str(requests), str(answers)]


def main() -> None:
    """Answers calls until the parent is gone."""
    requests = Connection(int(sys.argv[2]), writable=False)
    answers = Connection(int(sys.argv[3]), readable=False)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, waiting), daemon=True).start()
    try:
        function, _ = pickle.loads(waiting.get())
    except BaseException:
        answers.send(traceback.format_exc())
        return
    answers.send(None)
    while True:
        answers.send_bytes(_answer(function, waiting.get()))


def _receive(requests: Connection, waiting: queue.SimpleQueue[bytes]) -> None:
    """Apart from the calls, so that a call that hangs ends with the parent too."""
    try:
        while True:
            waiting.put(requests.recv_bytes())
    except EOFError:
        os._exit(0)


def _answer(function: Callable[..., Any], request: bytes) -> bytes:
    try:
        arguments, keywords = pickle.loads(request)
        return pickle.dumps((function(*arguments, **keywords), None))
    except Exception as error:
        return pickle.dumps((None, (f"{type(error).__name__}: {error}", traceback.format_exc())))
