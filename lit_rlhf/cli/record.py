"""What a run directory keeps of the configuration: resolved, and as it was given."""

from __future__ import annotations

import shutil
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from lit_rlhf.callbacks.files import replacing
from lit_rlhf.cli.directories import RECORD, started
from lit_rlhf.cli.runs import Run
from lit_rlhf.config import Composed
from lit_rlhf.config.versions import VERSION

OF_ONE_START = ("ckpt_path", "weights_only", "config")
"""Keys of the command line that say how this start begins, not what the run is."""


class ConfigRecord(SaveConfigCallback):
    """Writes `config.yaml`, which gives the same run again, and `given/`: the user's files and the command lines.

    Args:
        parser: of the command.
        config: what was parsed.
        run: whose directory is written.
        composed: whose files are copied.
        command: of the process.
    """

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, run: Run, composed: Composed, command: tuple[str, ...]
    ) -> None:
        super().__init__(parser, config, overwrite=True)
        self.run, self.composed, self.command = run, composed, command

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: a run that cannot load its data or its weights leaves no record."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved, folder = True, self.run.folder
        with replacing(folder / "config.yaml") as file:
            file.write(self.text())
        with replacing(folder / RECORD) as file:
            file.write(started(folder, self.run.after, self.command))
        for number, path in enumerate(self.composed.files, 1):
            with replacing(folder / RECORD.parent / f"{number}-{path.name}", "wb") as file, open(path, "rb") as source:
                shutil.copyfileobj(source, file)

    def text(self) -> str:
        """The configuration with every default in it."""
        tree = yaml.safe_load(self.parser.dump(self.config, skip_none=False, format="yaml"))
        kept: dict[str, Any] = {key: value for key, value in tree.items() if key not in OF_ONE_START}
        return yaml.safe_dump({"version": VERSION, "run": self.run.name} | kept, sort_keys=False, allow_unicode=True)
