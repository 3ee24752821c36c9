"""The files of configs/, built once for all tests, on few prompts of the built-in task."""

from __future__ import annotations

import functools
from pathlib import Path

from lightning import LightningDataModule, LightningModule

CONFIGS = Path(__file__).parents[1] / "configs"
ALL = sorted(CONFIGS.glob("*.yaml"))
SMALL = ("--data.batch_size=4", "--data.size=8", "--data.val_size=4")


@functools.cache
def built(path: Path) -> tuple[LightningModule, LightningDataModule]:
    """Algorithm and data of a file; no weights are read."""
    from lit_rlhf.cli import build

    return build(["--config", str(path), *SMALL])
