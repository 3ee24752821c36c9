"""One measuring process of ours: `step_ours.py FOLDER OUT VARIANT`. Trainer of Lightning, the metrics of every run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch import Callback
from measured import Clock, peak_mib
from torch.utils.data import DataLoader
from workload import LEARNING_RATE, TAU, Row, Workload

from lit_rlhf.algorithms.dpo import DPO
from lit_rlhf.algorithms.schedules import Linear
from lit_rlhf.callbacks.logging import MetricLogger
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.cached import Cached
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.data.collation import collate
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.losses.pra import PRA
from lit_rlhf.types import Batch

MICRO_BATCH_TOKENS = 16_384
"""The default of `data.micro_batch_tokens`."""
VARIANTS: dict[str, Callable[[Path], Reference]] = {
    "ours": lambda folder: FrozenCopy(),
    "ours_cached": lambda folder: Cached(folder / "logps"),
}


class Watch(Callback):
    """The time at the end of every optimizer step, and what the run logs of it."""

    def __init__(self) -> None:
        self.clock, self.losses, self.norms = Clock(), [], []

    def on_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.losses.append(values["train/loss"])
        self.norms.append(values["train/grad_norm"])

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *rest: Any) -> None:
        self.clock.mark()


def items_of(workload: Workload) -> list[tuple[Batch, ...]]:
    """The micro-batches of every optimizer step."""
    return [collate([group_of(row) for row in item], "preference").split(MICRO_BATCH_TOKENS) for item in workload.items]


def group_of(row: Row) -> Group:
    prompt, chosen, rejected = (np.array(ids) for ids in row)
    return Group(prompt, (chosen, rejected), pairs=(Pair(0, 1),))


def make_algorithm(folder: Path, reference: Reference) -> DPO:
    """DPO with the optimizer, the schedule and the clipping that TRL has by default."""
    return DPO(
        Actor(LanguageModel(str(folder))),
        PRA(tau=TAU),
        reference,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=0.0, fused=True),
        schedule=Linear(),
        max_grad_norm=1.0,
    )


def main(folder: Path, out: Path, variant: str) -> None:
    warnings.simplefilter("ignore")
    workload, base = Workload.load(folder), peak_mib()
    seed_everything(0, verbose=False)
    algorithm, watch = make_algorithm(folder, VARIANTS[variant](out.parent)), Watch()
    algorithm.configure_model()
    items = items_of(workload)
    algorithm.reference.precompute(batch for item in items for batch in item)
    trainer = Trainer(
        accelerator="cpu", max_steps=len(items), max_epochs=1, log_every_n_steps=1, logger=False,
        callbacks=[MetricLogger(), watch], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(algorithm, DataLoader(items, batch_size=None, collate_fn=lambda item: item))
    watch.clock.run(watch.losses, watch.norms, workload.warmup, base).save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
