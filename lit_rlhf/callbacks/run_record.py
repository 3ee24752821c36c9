"""What a run directory says of the run: the parts it trains, and the machine and versions it ran with."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rlhf.callbacks.files import replacing, run_directory

PACKAGES = (
    "lit_rlhf", "torch", "lightning", "transformers", "torchmetrics", "datasets", "peft", "numpy", "jsonargparse",
    "omegaconf",
)


class RunRecord(Callback):
    """Writes `parts/<part>/`, by which the run can be named as a model, `data.md` and `environment.json`.

    A part's folder has its configuration, tokenizer and generation settings, and no weights.

    Args:
        run_dir: the directory of the run; the logger's when None.
    """

    def __init__(self, run_dir: str | Path | None = None) -> None:
        self.run_dir = run_dir

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        folder = run_directory(self.run_dir, trainer)
        with replacing(folder / "environment.json") as file:
            json.dump(environment(trainer), file, indent=2)
        report = getattr(trainer.datamodule, "report", None)
        if report is not None:
            with replacing(folder / "data.md") as file:
                file.write(report.markdown())
        for name, part in getattr(pl_module, "parts", ()):
            if hasattr(part, "model"):
                part.model.save_description(folder / "parts" / name)


def environment(trainer: Trainer) -> dict[str, Any]:
    """Versions, devices, precision and command line."""
    device = trainer.strategy.root_device
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "precision": str(trainer.precision),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
