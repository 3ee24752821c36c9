"""Keeps what other packages say to nobody in particular off standard error."""

from __future__ import annotations

import logging
import warnings

LOGGERS = ("lightning.pytorch", "lightning.fabric")
"""Their INFO lines are the seed, the devices at hand, tips, and that a limit was reached."""
WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*is deprecated",  # Lightning's use of torch
    r".*does not have many workers which may be a bottleneck",  # items are made of tokens that are in memory
    r".*does not have any modules|.*in eval mode at the start of training",  # models without dropout are in eval mode
    r"You defined a `validation_step` but have no `val_dataloader`",  # data without a validation split
    r"`max_epochs` was not set",
)


def install() -> None:
    """Silences the known ones and nothing else; called once Lightning is imported, which sets filters of its own."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
