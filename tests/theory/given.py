"""A world for the theory's tests: n = 6 responses of one to three tokens, random laws, labels of no reward."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from lit_rlhf.theory.worlds import World

N = 6
WORLD = World.drawn(0, N, longest=3)
FLAT = dataclasses.replace(WORLD, lengths=None)
"""The same with responses of one token."""


def random_law(seed: int, *shape: int) -> Tensor:
    """Positive everywhere, and far from uniform."""
    law = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return law / law.sum()


def random_logits(seed: int, n: int = N) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def intransitive(seed: int, n: int = N) -> Tensor:
    """[n, n] preference probabilities that no reward explains."""
    p = 0.1 + 0.8 * torch.rand(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    upper = torch.triu(p, 1)
    return upper + torch.tril(1 - p.T, -1) + 0.5 * torch.eye(n, dtype=p.dtype)


MU, RHO, THETA = random_law(1, N), random_law(2, N, N), random_logits(3)
P = intransitive(4)

temperatures = pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
forms = pytest.mark.parametrize("world", [WORLD.prior, WORLD], ids=["prior", "posterior"])


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Relative, by the norm."""
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference."""
    return float((found - expected).abs().max())
