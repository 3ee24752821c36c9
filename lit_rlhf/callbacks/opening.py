"""What a run prints before it begins: its data and the size of its parts; and where there is nothing left to do."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class Opening(Callback):
    """Prints the data report before any weight is read, and the parameters of every part once they are."""

    def __init__(self) -> None:
        self._trained = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        report = getattr(trainer.datamodule, "report", None)
        if stage == "fit" and report is not None and trainer.is_global_zero:
            print(report.text())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            print("\n".join(sized(name, part) for name, part in getattr(pl_module, "parts", ())))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trained = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._trained and trainer.is_global_zero:
            done = f"the checkpoint has {trainer.global_step} updates" if trainer.ckpt_path else "trainer allows no update"
            print(f"nothing is left to do: {done}; raise the limit to go on")


def sized(name: str, part: nn.Module) -> str:
    """`actor: 84,416 parameters, all trained`."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in part.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
    return f"{name}: {total:,} parameters, {'all' if trained == total else f'{trained:,} of them'} trained"
