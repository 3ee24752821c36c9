"""Keeps warnings and tips of other packages off standard error."""

from __future__ import annotations

import logging
import warnings


def install() -> None:
    """Silences what no user of this command line can act on."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
