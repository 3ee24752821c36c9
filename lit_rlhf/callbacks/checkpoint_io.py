"""How checkpoints reach the disk and come back."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from lit_rlhf.callbacks.files import replacing
from lit_rlhf.errors import InputError


class AtomicCheckpointIO(TorchCheckpointIO):
    """One file per checkpoint, whole at any moment: written beside its target, synchronised, renamed.

    The first file of a run is read back before it replaces anything, no weight kept: later it is read with
    `weights_only=True`, which refuses what is not numbers, strings, containers and tensors.
    """

    def __init__(self) -> None:
        self._readable = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Raises: InputError: something in the checkpoint could not be read again."""
        with replacing(path, "wb") as file:
            torch.save(checkpoint, file)
            if not self._readable:
                file.flush()
                _read(Path(file.name), map_location="meta")
                self._readable = True

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Raises: InputError: there is no such file, it is damaged, or it holds more than data."""
        if not Path(path).is_file():
            raise InputError(f"ckpt_path: there is no checkpoint {path}; name an existing file, `last` or `best`")
        return _read(Path(path), map_location)


def _read(path: Path, map_location: Any) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # the directory of the archive comes last: a file cut anywhere has none
        raise InputError(f"checkpoint {path}: the file is damaged or no checkpoint; use another one")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        lines = (line.strip() for line in str(error).splitlines())
        reason = " ".join(line for line in lines if "Unsupported" in line or "GLOBAL" in line)
        raise InputError(
            f"checkpoint {path}: it holds an object that safe loading refuses ({reason or error}); the state of a "
            "callback or optimizer may hold numbers, strings, lists, dictionaries and tensors"
        ) from error
