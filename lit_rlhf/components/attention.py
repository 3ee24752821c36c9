"""How a model is fed: a layout turns ragged sequences into forward passes and gives ragged states back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lit_rlhf.types import Sequences, segment_indices

Backbone = Callable[..., Tensor]
"""(input_ids [B, L], attention_mask [B, L]) -> states [B, L, D]."""


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

    Rows are run in order of length, in sub-batches in which at most the share `waste` of the tokens is padding.

    Args:
        waste: between 0 (rows of equal length only) and 1 (everything at once).
    """

    def __init__(self, waste: float = 0.15) -> None:
        self.waste = waste

    def states(self, backbone: Backbone, sequences: Sequences, first: Tensor, count: Tensor) -> Tensor:
        lengths = (sequences.prompt_lengths[sequences.prompt_of] + sequences.completion_lengths).cpu()
        tokens = _rows(sequences)
        order = torch.argsort(lengths, stable=True)
        pieces = [
            self._sub_batch(backbone, tokens, lengths, rows, first, count) for rows in self._sub_batches(lengths, order)
        ]
        found, sizes = torch.cat(pieces), count.cpu()
        back = torch.argsort(order)
        return found[segment_indices(sizes[order], back).to(found.device)]

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
    def _sub_batch(
        backbone: Backbone, tokens: tuple[Tensor, ...], lengths: Tensor, rows: Tensor, first: Tensor, count: Tensor
    ) -> Tensor:
        chosen, longest = [tokens[row] for row in rows.tolist()], int(lengths[rows].max())
        ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)  # the pad id is never looked at
        own = lengths[rows].to(ids.device)
        padded = bool((lengths[rows] != longest).any())
        mask = (torch.arange(longest, device=ids.device) < own[:, None]).long() if padded else None
        states = backbone(input_ids=ids, attention_mask=mask)
        rows = rows.to(first.device)
        size = count[rows]
        line = torch.repeat_interleave(torch.arange(len(rows), device=size.device), size)
        start = torch.repeat_interleave(first[rows] - (size.cumsum(0) - size), size)
        return states[line, start + torch.arange(len(line), device=line.device)]


def _rows(sequences: Sequences) -> tuple[Tensor, ...]:
    prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
    completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
    return tuple(
        torch.cat([prompts[prompt], completion])
        for prompt, completion in zip(sequences.prompt_of.tolist(), completions, strict=True)
    )
