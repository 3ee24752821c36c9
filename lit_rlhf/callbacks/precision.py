"""The precision of a run where none is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A value for `trainer.precision` and why it was chosen."""

    name: str
    reason: str


def choose_precision(accelerator: str = "auto") -> Precision:
    """bf16-mixed where the device computes in bf16, 32-true where bf16 is emulated or missing.

    Args:
        accelerator: as for the trainer.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16-mixed", f"{name} computes in bf16")
        return Precision("32-true", f"{name} only emulates bf16")
    device = "mps" if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available() else "cpu"
    return Precision("32-true", f"bf16 is emulated or slower than fp32 on {device}")
