"""How a model is fed: a layout turns ragged sequences into forward passes and gives ragged states back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.types import Sequences, segment_indices

Backbone = Callable[[Tensor], Tensor]
"""input_ids [B, L] -> states [B, L, D], position ids 0..L-1, each state a function of the tokens up to its own."""


class Layout(ABC):
    """States of chosen positions of every row [prompt | completion], whatever the rows look like inside the model."""

    @abstractmethod
    def states(self, backbone: Backbone, sequences: Sequences, first: Tensor, count: Tensor) -> Tensor:
        """[sum count, D] the states at positions first[s] ... first[s] + count[s] - 1 of each row s, in order.

        Args:
            backbone: the model without its output head.
            sequences: S rows [prompt | completion].
            first: [S] position in the row, at least that of the last prompt token.
            count: [S]
        """


class Padded(Layout):
    """Right-padded rows, the prompt repeated with every completion: right for any causal model.

    A state depends on the tokens before it alone, so what is padded on the right changes nothing, needs no mask, and
    may be any id. Rows are run in order of length, in sub-batches of which at most the share `waste` is padding.

    Args:
        waste: between 0 (rows of equal length only) and 1 (all rows at once).

    Raises:
        InputError: `waste` is not such a share.
    """

    def __init__(self, waste: float = 0.15) -> None:
        if not 0 <= waste <= 1:
            raise InputError(f"Padded.waste is {waste}; it is a share of the tokens, between 0 and 1")
        self.waste = waste

    def states(self, backbone: Backbone, sequences: Sequences, first: Tensor, count: Tensor) -> Tensor:
        rows = _rows(sequences)
        lengths = torch.tensor([len(row) for row in rows])
        order = torch.argsort(lengths, stable=True)
        pieces = [self._run(backbone, rows, which, first, count) for which in self._sub_batches(lengths, order)]
        place = torch.argsort(order).to(count.device)
        return torch.cat(pieces)[segment_indices(count[order.to(count.device)], place)]

    def _sub_batches(self, lengths: Tensor, order: Tensor) -> Iterator[Tensor]:
        """Runs of `order` (ascending in length) with little padding."""
        ordered, start, total = lengths[order].tolist(), 0, 0
        for place, length in enumerate(ordered):
            if place > start and 1 - (total + length) / ((place - start + 1) * length) > self.waste:
                yield order[start:place]
                start, total = place, 0
            total += length
        yield order[start:]

    @staticmethod
    def _run(backbone: Backbone, rows: tuple[Tensor, ...], which: Tensor, first: Tensor, count: Tensor) -> Tensor:
        ids = torch.nn.utils.rnn.pad_sequence([rows[row] for row in which.tolist()], batch_first=True)
        states = backbone(ids)
        which = which.to(first.device)
        size = count[which]
        line = torch.repeat_interleave(torch.arange(len(which), device=size.device), size)
        start = torch.repeat_interleave(first[which] - (size.cumsum(0) - size), size)
        return states[line, start + torch.arange(len(line), device=line.device)]


def _rows(sequences: Sequences) -> tuple[Tensor, ...]:
    """[P + C] the tokens of each row."""
    prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
    completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
    return tuple(
        torch.cat([prompts[prompt], completion])
        for prompt, completion in zip(sequences.prompt_of.tolist(), completions, strict=True)
    )
