"""Metrics to loggers, callbacks and progress bars: one reduction and one call every `log_every_n_steps` updates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Metric

from lit_rlhf.algorithms.metrics import metric_name
from lit_rlhf.callbacks import tensorboard
from lit_rlhf.callbacks.names import check_monitors, staged
from lit_rlhf.callbacks.phases import PHASES, SAMPLING, Phases
from lit_rlhf.ranks import gather_rows

SHOWN = (
    "train/loss", "train/accuracy", "train/rewards/margin", "reward/total", "rollout/length", "val/loss", "val/reward",
    "val/preference_accuracy", "perf/tokens_per_second",
)
"""What progress bars show of the metrics that a run has."""


class MetricLogger(Callback):
    """Logs what the algorithm records, with `trainer.global_step` as the x axis.

    The values also become `trainer.callback_metrics`, where checkpoints and early stopping look for them. Validation
    adds the algorithm's torchmetrics: a value with a dimension is a histogram. Nothing is logged during Lightning's
    sanity check. What is left of a window is logged when training ends.

    Raises:
        InputError: a callback watches a metric that this run does not have.
    """

    def __init__(self) -> None:
        self.phases = Phases()
        self._items = self._seen_step = self._logged_step = self._loaded_step = 0

    # ---- start

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            check_monitors(trainer, pl_module)
            # Lightning expects nothing to be logged then; here the rest is logged at the end.
            expected = "The number of training batches .* is smaller than the logging interval"
            warnings.filterwarnings("ignore", message=expected)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded_step = checkpoint["global_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._items, self._seen_step, self._logged_step = 0, trainer.global_step, trainer.global_step
        tensorboard.forget_from(trainer, trainer.global_step + 1 if trainer.global_step else 0)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                print(f"tensorboard --logdir {logger.save_dir}    shows the metrics of this run under {logger.name}")
                tensorboard.configuration(trainer, Path(logger.log_dir), ("train/loss", "val/loss"))
        report = getattr(trainer.datamodule, "report", None)
        if report is not None:
            tensorboard.text(trainer, "data/report", report.markdown())
        self.phases.restart()
        pl_module.enter = self.phases.enter

    # ---- training

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.phases.enter("forward_backward")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.phases.enter("optimizer")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.phases.enter("logging")
        self._items += 1
        every, step = trainer.log_every_n_steps, trainer.global_step
        if every and step // every > self._seen_step // every:
            self._log_training(trainer, pl_module)
        self._seen_step = step
        self.phases.enter("data")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._items:
            self._log_training(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.phases.enter("checkpoint")
        for writer in tensorboard.writers(trainer):
            writer.flush()  # a resumed run does not log again what came before its checkpoint

    def _log_training(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {staged("train", name): value for name, value in pl_module.recorder.flush(pl_module.device).items()}
        values |= _learning_rates(pl_module) | self._performance(values, trainer.global_step)
        values["train/epoch"] = pl_module.items_done / trainer.num_training_batches
        self._items, self._logged_step = 0, trainer.global_step
        for name, numbers in getattr(pl_module, "distributions", {}).items():
            tensorboard.histogram(trainer, name, gather_rows(numbers)[0], trainer.global_step)
        publish(trainer, values, trainer.global_step)

    def _performance(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        seconds = self.phases.take()
        total = max(sum(seconds.values()), 1e-9)
        training = max(total - seconds["validation"] - seconds["checkpoint"], 1e-9)
        shares = {f"perf/share_{phase}": seconds[phase] / total for phase in PHASES if seconds[phase] or phase not in SAMPLING}
        speed = values["train/tokens"] * self._items / training
        if "rollout/tokens" in values:
            shares["perf/sampled_per_second"] = values["rollout/tokens"] * self._items / max(seconds["generate"], 1e-9)
        return shares | {
            "perf/tokens_per_second": speed,
            "perf/seconds_per_update": training / max(1, step - self._logged_step),
        }

    # ---- validation and test

    def on_validation_start(self, *args: Any) -> None:
        self.phases.enter("validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.phases.enter("data")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_evaluation(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_evaluation(trainer, pl_module, "test")

    def _log_evaluation(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        values, distributions = evaluated(pl_module)
        if trainer.sanity_checking:
            return
        step = trainer.global_step if trainer.state.fn == TrainerFn.FITTING else self._loaded_step
        for name, numbers in distributions.items():
            tensorboard.histogram(trainer, staged(stage, name), numbers, step)
        values = {staged(stage, name): value for name, value in values.items()}
        publish(trainer, values, step)
        if trainer.state.fn != TrainerFn.FITTING and trainer.is_global_zero:
            width = max(map(len, values), default=0)
            print("\n".join(f"{name:<{width}}  {value:.6g}" for name, value in sorted(values.items())))


def publish(trainer: Trainer, values: Mapping[str, float], step: int) -> None:
    """To loggers at `step`, to `callback_metrics` and the progress bar, and to callbacks with a method `on_metrics`."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
    trainer.progress_bar_metrics.update({name: values[name] for name in SHOWN if name in values})
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=step)
    for callback in trainer.callbacks:
        if hasattr(callback, "on_metrics"):
            callback.on_metrics(values, step)


def evaluated(module: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The numbers and the distributions of an evaluation that has ended, over all ranks; the states are emptied."""
    values = module.val_recorder.flush(module.device)
    terms = [name for name in values if name.startswith("loss/")]
    if terms:
        values["loss"] = sum(values[name] for name in terms)
        values = values if len(terms) > 1 else {name: value for name, value in values.items() if name not in terms}
    distributions = {}
    for metric in module.metrics:
        for name, value in _leaves(metric_name(metric), _computed(metric)):
            if value.ndim == 0:
                values[name] = float(value)
            else:
                distributions[name] = value
        metric.reset()
    return values, distributions


def _computed(metric: Metric) -> Tensor | Mapping[str, Tensor] | None:
    with warnings.catch_warnings():  # a rank without a batch takes part all the same
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        return metric.compute()


def _leaves(name: str, value: Tensor | Mapping[str, Tensor] | None) -> list[tuple[str, Tensor]]:
    if value is None:
        return []
    return [(f"{name}/{key}", leaf) for key, leaf in value.items()] if isinstance(value, Mapping) else [(name, value)]


def _learning_rates(module: LightningModule) -> dict[str, float]:
    """One number, or one for every part that has its own."""
    groups = module.optimizers(use_pl_optimizer=False).param_groups
    rates = {group.get("name", str(index)): float(group["lr"]) for index, group in enumerate(groups)}
    if len(set(rates.values())) == 1:
        return {"train/learning_rate": next(iter(rates.values()))}
    return {f"train/learning_rate/{name}": rate for name, rate in rates.items()}
