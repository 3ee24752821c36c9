"""What goes to TensorBoard besides scalars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """The writers of the TensorBoard loggers of this trainer; none on other ranks than 0."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def text(trainer: Trainer, tag: str, markdown: str, step: int = 0) -> None:
    """A page of text."""
    for writer in writers(trainer):
        writer.add_text(tag, markdown, step)


def histogram(trainer: Trainer, tag: str, values: Tensor, step: int) -> None:
    """The distribution of `values` [n]; nothing where n = 0."""
    if values.numel():
        for writer in writers(trainer):
            writer.add_histogram(tag, values.detach().float().cpu(), step)


def forget_from(trainer: Trainer, step: int) -> None:
    """Points from `step` on, of a process that was killed, are not shown any more."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    for writer in writers(trainer):
        mark = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        writer._get_file_writer().add_event(mark, step)


def configuration(trainer: Trainer, folder: Path, metrics: tuple[str, ...]) -> None:
    """The resolved `config.yaml` of the run directory as a page and, flattened, in the table of hyper-parameters."""
    file = folder / "config.yaml"
    if not file.is_file() or not trainer.is_global_zero:
        return
    content = file.read_text(encoding="utf-8")
    text(trainer, "run/config", f"```yaml\n{content}\n```")
    for writer in writers(trainer):
        for summary in hparams(flattened(yaml.safe_load(content) or {}), dict.fromkeys(metrics, 0.0)):
            writer._get_file_writer().add_summary(summary)


def flattened(tree: Any, prefix: str = "") -> dict[str, str | bool | int | float]:
    """Leaves by dotted key: `{"a": {"b": 1}, "c": [2]}` is `{"a.b": 1, "c.0": 2}`; None is left out."""
    if isinstance(tree, Mapping):
        pairs = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        pairs = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return {} if tree is None else {prefix: tree if isinstance(tree, bool | int | float) else str(tree)}
    return {
        leaf: value
        for key, branch in pairs
        for leaf, value in flattened(branch, f"{prefix}.{key}" if prefix else key).items()
    }
