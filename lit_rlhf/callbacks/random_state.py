"""The random states of this process as plain lists, which any number of ranks can gather and a safe loader can read."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """States of the generators of Python, NumPy, torch and every CUDA device."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: Tensor
    cuda: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> RandomState:
        """The present states; no generator moves."""
        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Puts the generators back. CUDA devices beyond those at hand are left out."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        for device, state in enumerate(self.cuda[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)

    def as_lists(self) -> dict[str, Any]:
        """Numbers, strings and lists only."""
        version, words, gauss = self.python
        name, keys, *rest = self.numpy
        return {
            "python": [version, list(words), gauss],
            "numpy": [str(name), keys.tolist(), *rest],
            "torch": self.torch.tolist(),
            "cuda": [state.tolist() for state in self.cuda],
        }

    @classmethod
    def from_lists(cls, state: dict[str, Any]) -> RandomState:
        """The inverse of `as_lists`."""
        version, words, gauss = state["python"]
        name, keys, *rest = state["numpy"]
        return cls(
            (version, tuple(words), gauss),
            (name, np.array(keys, dtype=np.uint32), *rest),
            torch.tensor(state["torch"], dtype=torch.uint8),
            tuple(torch.tensor(device, dtype=torch.uint8) for device in state["cuda"]),
        )
