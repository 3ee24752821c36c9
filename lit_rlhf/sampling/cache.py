"""Keys and values of the tokens so far, in buffers that are allocated once and whose rows can leave."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DummyLayer, DynamicCache, DynamicLayer, LinearAttentionCacheLayerMixin


class Reserved(DynamicLayer):
    """A layer of full attention whose buffers have room for all tokens that will come.

    Args:
        layer: filled with the prompts.
        rows: [R] the prompt of each row.
        tokens: of a row at most, those of the prompt included.
    """

    def __init__(self, layer: DynamicLayer, rows: Tensor, tokens: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.keys.dtype, layer.keys.device, True
        self._length = layer.keys.shape[2]
        self._buffers = [_spread(given, rows, tokens) for given in (layer.keys, layer.values)]
        self._show(len(rows))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self._length = self._length, self._length + key_states.shape[2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: len(new), :, start : self._length] = new
        self._show(len(key_states))
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows are copied only where another takes their place: `beam_idx` reads no row that it has overwritten."""
        moved = (beam_idx != torch.arange(len(beam_idx), device=beam_idx.device)).nonzero()[:, 0]
        for buffer in self._buffers:
            buffer[moved, :, : self._length] = buffer[beam_idx[moved], :, : self._length]
        self._show(len(beam_idx))

    def _show(self, rows: int) -> None:
        self.keys, self.values = (buffer[:rows, :, : self._length] for buffer in self._buffers)


def reserve(cache: DynamicCache, rows: Tensor, tokens: int) -> None:
    """Gives every row [R] the cache of its prompt, with room for `tokens` tokens in all."""
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            cache.layers[index] = Reserved(layer, rows, tokens)
        else:
            layer.reorder_cache(rows)


def has_states(cache: DynamicCache) -> bool:
    """Whether a layer keeps a state of all tokens, which padding before a prompt would enter."""
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)


def is_used(cache: DynamicCache) -> bool:
    """Whether every layer that should hold something does, after a forward."""
    return all(_holds(layer) for layer in cache.layers if not isinstance(layer, DummyLayer))


def length_of(cache: DynamicCache) -> int | None:
    """Tokens that are held; None where no layer of attention counts them."""
    counted = [layer.get_seq_length() for layer in cache.layers if isinstance(layer, DynamicLayer)]
    return max(counted, default=None)


def remaining(done: Tensor) -> Tensor:
    """Indices of the rows that go on, the last of them in the places of those that are done [B] bool."""
    alive = (~done).nonzero()[:, 0]
    order = torch.arange(len(alive), device=done.device)
    gaps = done[: len(alive)].nonzero()[:, 0]
    order[gaps] = alive[len(alive) - len(gaps) :]
    return order


def _holds(layer: Any) -> bool:
    states = not isinstance(layer, LinearAttentionCacheLayerMixin) or any(
        [*layer.is_conv_states_initialized.values(), *layer.is_recurrent_states_initialized.values()]
    )
    return states and (not isinstance(layer, DynamicLayer) or layer.is_initialized)


def _spread(given: Tensor, rows: Tensor, tokens: int) -> Tensor:
    buffer = given.new_empty((len(rows), given.shape[1], tokens, given.shape[3]))
    buffer[:, :, : given.shape[2]] = given[rows]
    return buffer
