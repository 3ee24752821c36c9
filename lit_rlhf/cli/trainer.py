"""LightningCLI on a composed tree, with what every run of ours has: logger, callbacks, precision, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from lit_rlhf.callbacks import default_callbacks
from lit_rlhf.callbacks.precision import choose_precision
from lit_rlhf.cli import quiet
from lit_rlhf.cli.checking import check_data, check_parts
from lit_rlhf.cli.directories import RUNS
from lit_rlhf.cli.failures import explained, located, refused
from lit_rlhf.cli.ranks import is_first
from lit_rlhf.cli.record import ConfigRecord
from lit_rlhf.cli.runs import Run
from lit_rlhf.config import Composed, check

DEFAULTS = {"use_distributed_sampler": False, "enable_model_summary": False}
"""The planner shares the data out among ranks; the sizes of the parts are printed by `Opening`."""
LIMITS = ("max_steps", "max_epochs", "max_time")


class CommandLine(LightningCLI):
    """LightningCLI on a tree that is composed already.

    Args:
        tree: literal values, as a configuration file would hold them.
        command: of the Trainer; None builds the parts alone.
        defaults: of the Trainer.
        settings: further arguments of LightningCLI.
    """

    def __init__(
        self, tree: Mapping[str, Any], command: str | None, defaults: Mapping[str, Any], **settings: Any
    ) -> None:
        self.command = command
        super().__init__(
            LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
            args={"subcommand": command, command: dict(tree)} if command else dict(tree), run=command is not None,
            trainer_defaults=dict(defaults), seed_everything_default=0, auto_configure_optimizers=False,
            load_from_checkpoint_support=False, parser_kwargs={"exit_on_error": False}, **settings,
        )

    def subcommands(self) -> dict[str, set[str]]:
        """The one that is asked for: each costs a parser."""
        return {name: skipped for name, skipped in super().subcommands().items() if name == self.command}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        with refused():
            self.config = parser.parse_object(args)

    def _parse_ckpt_path(self) -> None:
        """A checkpoint's hyper-parameters never take the place of what the user gave."""

    def instantiate_classes(self) -> None:
        with refused():
            super().instantiate_classes()


class Parts(CommandLine):
    """The algorithm and the data module, without a Trainer."""

    def instantiate_trainer(self, **kwargs: Any) -> None:
        """None is made."""


class RunLine(CommandLine):
    """A command of the Trainer on a run.

    Args:
        composed: what is run.
        command: of the Trainer.
        run: what is read and written.
        words: the command line, for the record.
        dry: everything is built and nothing run.
    """

    def __init__(
        self, composed: Composed, command: str, run: Run, words: Sequence[str] = (), dry: bool = False
    ) -> None:
        self.run_of, self.dry = run, dry
        own: dict[str, Any] = {"ckpt_path": run.checkpoint and str(run.checkpoint)}
        if command == "predict":
            own["return_predictions"] = False  # they are written as they come
        limited = any(composed.tree.get("trainer", {}).get(name) is not None for name in LIMITS)
        recorded = {"run": run, "composed": composed, "command": tuple(words)}
        super().__init__(
            composed.tree | own, command, DEFAULTS | ({} if limited else {"max_epochs": 1}),
            save_config_callback=ConfigRecord if command == "fit" and not dry else None, save_config_kwargs=recorded,
        )

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Fills in what was left open; in `config.yaml` it stays open."""
        if config["logger"] in (None, True):
            fits = self.command == "fit" and not self.dry
            config["logger"] = TensorBoardLogger(RUNS, name=self.run_of.name, version="") if fits else False
        config["default_root_dir"] = config["default_root_dir"] or str(self.run_of.folder)
        if isinstance(config["val_check_interval"], int):  # else Lightning refuses epochs of fewer updates
            config["check_val_every_n_epoch"] = None
        if config["precision"] is None:
            chosen = choose_precision(config["accelerator"] if isinstance(config["accelerator"], str) else "auto")
            config["precision"] = chosen.name
            if is_first():
                print(f"precision: {chosen.name}, because {chosen.reason}; --trainer.precision sets another")
        config["callbacks"] = with_defaults(config, self.run_of, getattr(self.model, "monitored", "val/loss"))
        return super()._instantiate_trainer(config, callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        if not self.dry:
            check_parts(self.model, self.trainer)
            with explained(self.trainer, self.datamodule, self.run_of):
                super()._run_subcommand(subcommand)


def with_defaults(trainer: Mapping[str, Any], run: Run, monitor: str = "val/loss") -> list[Callback]:
    """The configured callbacks of a trainer, and the default ones of which none is configured."""
    given = trainer["callbacks"] or []
    given = list(given) if isinstance(given, list | tuple) else [given]
    defaults = default_callbacks(run.folder, trainer["enable_progress_bar"] is not False, monitor)
    if trainer["enable_checkpointing"] is False:
        defaults = [callback for callback in defaults if not isinstance(callback, ModelCheckpoint)]
    return given + [callback for callback in defaults if not any(isinstance(own, type(callback)) for own in given)]


def train(command: str, composed: Composed, run: Run, words: Sequence[str]) -> None:
    """Runs a command of the Trainer.

    Raises:
        InputError: the composition cannot be built.
        RunFailed: a failure that its sentence explains.
    """
    quiet.install()
    check(composed)
    if run.note and is_first():
        print(run.note)
    with located(composed):
        RunLine(composed, command, run, words)


def check_all(composed: Composed, run: Run) -> None:
    """Builds everything and looks at the data, the metrics' names and the tokenizers; no weights are read.

    Raises:
        InputError: naming what is wrong.
    """
    quiet.install()
    check(composed)
    with located(composed):
        made = RunLine(composed, "fit", run, dry=True)
        check_parts(made.model, made.trainer)
        check_data(made.model, made.datamodule)
    names = f"{type(made.model).__name__} on {type(made.datamodule).__name__}"
    print(f"{names}: everything fits. It would write {run.folder}")


def parts(composed: Composed) -> tuple[LightningModule, LightningDataModule]:
    """The algorithm and the data module of a composition."""
    quiet.install()
    check(composed)
    tree = {key: composed.tree[key] for key in ("model", "data", "seed_everything") if key in composed.tree}
    with located(composed):
        made = Parts(tree, None, {})
    return made.model, made.datamodule
