"""`fit`, `validate`, `test` and `predict`: one composed tree given to LightningCLI."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from lit_rlhf import callbacks
from lit_rlhf.cli import quiet
from lit_rlhf.cli.composing import compose
from lit_rlhf.cli.runs import Run, decide

QUICKSTART = Path(__file__).parents[1] / "assets" / "quickstart.yaml"


class CommandLine(LightningCLI):
    """LightningCLI on a tree that is composed already.

    Args:
        tree: literal values, as `--config` would hold them.
        command: of the Trainer; None builds the parts alone.
        run: the run's directory and its checkpoint.
    """

    def __init__(self, tree: Mapping[str, Any], command: str | None, run: Run | None = None) -> None:
        self.run_of = run
        super().__init__(
            LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
            args={"subcommand": command, command: dict(tree)} if command else dict(tree), run=command is not None,
            trainer_defaults={} if run is None else _defaults(run), save_config_kwargs={"overwrite": True},
            seed_everything_default=0, auto_configure_optimizers=False, load_from_checkpoint_support=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.config = parser.parse_object(args)

    def _parse_ckpt_path(self) -> None:
        """Hyper-parameters of a checkpoint never take the place of what the user gave."""

    def _instantiate_trainer(self, config: dict[str, Any], callbacks_: list[Any]) -> Any:
        given = list(config["callbacks"] or ())
        defaults = callbacks.default_callbacks(self.run_of.folder, config["enable_progress_bar"] is not False)
        config["callbacks"] = [*given, *(one for one in defaults if not any(type(one) is type(own) for own in given))]
        return super()._instantiate_trainer(config, callbacks_)


def _defaults(run: Run) -> dict[str, Any]:
    logger = {"save_dir": "runs", "name": run.name, "version": ""}
    return {
        "logger": {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": logger},
        "use_distributed_sampler": False,
    }


def command(name: str, arguments: Sequence[str]) -> None:
    """Runs one of the Trainer's methods."""
    composed = compose(arguments, default=QUICKSTART if name == "fit" else None)
    tree = dict(composed.tree)
    run = decide(composed.run, composed.files, tree.pop("ckpt_path", None))
    quiet.install()
    CommandLine(tree | {"ckpt_path": run.checkpoint and str(run.checkpoint)}, name, run)


fit, validate, test, predict = (
    functools.partial(command, name) for name in ("fit", "validate", "test", "predict")
)


def build(arguments: Sequence[str]) -> tuple[LightningModule, LightningDataModule]:
    """The algorithm and the data module; see `lit_rlhf.cli.build`."""
    composed = compose(arguments)
    tree = {key: composed.tree[key] for key in ("model", "data", "seed_everything") if key in composed.tree}
    made = _Parts(tree, None)
    return made.model, made.datamodule


class _Parts(CommandLine):
    def instantiate_trainer(self, **kwargs: Any) -> None:
        return None
