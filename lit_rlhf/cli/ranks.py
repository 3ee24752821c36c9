"""Which process of a run this is, from the environment, before any process group exists."""

from __future__ import annotations

import os

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "JSM_NAMESPACE_LOCAL_RANK")


def is_first() -> bool:
    """Whether this is the process that decides, prints and writes."""
    return not any(_number(name) for name in RANKS)


def is_first_of_machine() -> bool:
    """Whether no other process of this machine has a lower rank."""
    return not any(_number(name) for name in LOCAL_RANKS)


def rank_name() -> str:
    """For messages: `rank 3`."""
    return f"rank {next((rank for name in RANKS if (rank := _number(name))), 0)}"


def started_from_outside() -> bool:
    """Whether several processes were started by a launcher, or on several machines, and not by the first of them."""
    return _number("SLURM_NTASKS") > 1 or _number("WORLD_SIZE") > 1 or "NODE_RANK" in os.environ


def _number(name: str) -> int:
    value = os.environ.get(name, "0")
    return int(value) if value.isdecimal() else 0
