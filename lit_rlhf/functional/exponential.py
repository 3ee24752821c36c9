"""Exponentials that stay finite: beyond x = LARGEST they go on as their tangent.

Values still grow there, and gradients keep their sign: a clamp would lose both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import relu

LARGEST = 30.0
"""e^30 is 1e13: its square, in the norm of a gradient, is still far from the end of float32."""


def exp(x: Tensor) -> Tensor:
    """e^x for x <= LARGEST, e^LARGEST (1 + x - LARGEST) beyond."""
    return torch.exp(x.clamp_max(LARGEST)) * (1 + relu(x - LARGEST))


def expm1(x: Tensor) -> Tensor:
    """e^x - 1 for x <= LARGEST, e^LARGEST (1 + x - LARGEST) - 1 beyond."""
    return torch.expm1(x.clamp_max(LARGEST)) + math.exp(LARGEST) * relu(x - LARGEST)
