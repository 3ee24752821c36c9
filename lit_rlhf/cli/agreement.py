"""Every process of a run works on the same run: the first one decides and tells the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lit_rlhf.cli.ranks import is_first, started_from_outside
from lit_rlhf.cli.runs import Request, Run, claim, decide
from lit_rlhf.errors import InputError

VARIABLE = "LIT_RLHF_RUN"
"""Environment variable that the processes started by the first one inherit."""


def agreed(request: Request) -> Run:
    """The run of a command, the same in all processes.

    Processes that Lightning starts learn it from the environment, those of torchrun from its store. Others, which know
    nothing of each other yet, come to the same decision where the run has a name.

    Raises:
        InputError: the run is refused, or has no name where it needs one.
    """
    store = _store()
    if not is_first() and store is not None:
        return read(store.get(_key()).decode())
    if not is_first() and VARIABLE in os.environ:
        return read(os.environ[VARIABLE])
    if request.name is None and store is None and started_from_outside():
        raise InputError(f"run: several processes cannot agree on a name; give one, as in --run={request.after}")
    if not is_first():
        return decide(request)
    run = claim(request)
    os.environ[VARIABLE] = written(run)
    if store is not None:
        store.set(_key(), written(run))
    return run


def written(run: Run) -> str:
    """A run as text."""
    return json.dumps({"name": run.name, "checkpoint": run.checkpoint and str(run.checkpoint), "after": run.after})


def read(text: str) -> Run:
    """The inverse of `written`."""
    found = json.loads(text)
    return Run(found["name"], found["checkpoint"] and Path(found["checkpoint"]), found["after"])


def _store() -> Any:
    """The store of torchrun's agent; None where there is none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore

    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def _key() -> str:
    return f"lit_rlhf/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
