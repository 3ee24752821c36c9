"""Ctrl-C that lets the update in progress finish."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from lightning.pytorch.utilities import rank_zero_only


WHOLE = "this update, or this iteration's updates where it samples"
"""What is finished first: the resumed run goes on at an item of the data."""


class Interrupt:
    """The first Ctrl-C is remembered in `asked`, the second stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._installed = False

    def install(self) -> None:
        """Takes SIGINT over, where Python's own handler has it and this is the main thread."""
        self.asked = False
        own_thread = threading.current_thread() is threading.main_thread()
        if own_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._received)
            self._installed = True

    def remove(self) -> None:
        """Gives SIGINT back."""
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._installed = False

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.remove()
            raise KeyboardInterrupt
        self.asked = True
        if rank_zero_only.rank == 0:
            print(f"\nStopping after {WHOLE}, with a checkpoint. Press Ctrl-C again to stop at once.", file=sys.stderr)
