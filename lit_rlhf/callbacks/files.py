"""Files that are whole or not there: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lightning.pytorch import Trainer


@contextlib.contextmanager
def replacing(target: str | Path, mode: str = "w") -> Iterator[IO]:
    """A file to write that becomes `target` at the end of the block, on disk with its folder.

    An error leaves `target` alone. The temporary name is the same every time, so that processes killed while writing
    leave one file behind at most.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, target)
    sync_folder(target.parent)


def run_directory(given: str | Path | None, trainer: Trainer) -> Path:
    """The folder that was given, or the logger's, or the trainer's."""
    return Path(given or trainer.log_dir or trainer.default_root_dir)


def sync_folder(folder: Path) -> None:
    """Brings renames in a folder to the disk, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
