"""What crosses ranks: sums and ragged gathers. One process gives its argument back."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """The elementwise sum of every rank's tensor of the same shape."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def largest_over_ranks(value: int, device: torch.device | str = "cpu") -> int:
    """The largest of every rank's number."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """All ranks' rows [n_rank, ...] concatenated in the order of ranks, and the index where this rank's begin."""
    if world_size() == 1:
        return rows, 0
    own = torch.tensor([len(rows)], device=rows.device)
    lengths = [torch.zeros_like(own) for _ in range(world_size())]
    dist.all_gather(lengths, own)
    sizes = [int(length) for length in lengths]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]), sum(sizes[: dist.get_rank()])
