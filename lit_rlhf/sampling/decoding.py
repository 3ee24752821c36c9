"""A model that reads prompts once and then one token of every row at a time."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lit_rlhf.components.language_model import LanguageModel, refuse_other_size
from lit_rlhf.errors import InputError
from lit_rlhf.functional import linear_logps
from lit_rlhf.functional.linear_logps import chunks
from lit_rlhf.sampling.cache import has_states, is_used, length_of, reserve


def empty_cache(model: LanguageModel) -> DynamicCache:
    """Transformers' general cache for this model.

    Raises:
        InputError: the model does not use it, or has no attention that would count its tokens.
    """
    cache = DynamicCache(config=model.base.config)
    if "past_key_values" not in _arguments(model) or length_of(cache) is None:
        raise _other_cache(model)
    return cache


def accepts_padding(model: LanguageModel) -> bool:
    """Whether prompts of several lengths can share a batch: positions can be told, and no state is of all tokens."""
    return "position_ids" in _arguments(model) and not has_states(empty_cache(model))


class Stream:
    """Hidden states of the newest tokens, by a cache.

    Args:
        model: built.
        ids: [N, P] prompts, padded on the left where their lengths differ.
        lengths: [N]
        rows: [R] the prompt of each row.
        tokens: of a row at most, P included.

    Raises:
        InputError: the model keeps no cache that transformers' general one can hold.
    """

    def __init__(self, model: LanguageModel, ids: Tensor, lengths: Tensor, rows: Tensor, tokens: int) -> None:
        self.model, self.cache = model, empty_cache(model)
        self.length = ids.shape[1]
        self.told = "position_ids" in _arguments(model)
        shift = self.length - lengths
        self.mask = None
        if bool((shift > 0).any()):
            self.mask = torch.arange(tokens, device=ids.device) >= shift[rows, None]
        self.positions = lengths[rows]
        place = (torch.arange(self.length, device=ids.device) - shift[:, None]).clamp_min(0)
        mask = None if self.mask is None else torch.arange(self.length, device=ids.device) >= shift[:, None]
        self.hidden = self._forward(ids, mask, place)[rows]
        reserve(self.cache, rows, tokens)

    def step(self, tokens: Tensor) -> None:
        """Reads the newest token of each row [B]."""
        mask = None if self.mask is None else self.mask[:, : self.length + 1]
        self.hidden = self._forward(tokens[:, None], mask, self.positions[:, None])
        self.length, self.positions = self.length + 1, self.positions + 1

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows alone; see `cache.remaining`."""
        self.cache.reorder_cache(rows)
        self.positions = self.positions[rows]
        self.mask = None if self.mask is None else self.mask[rows]

    def _forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """[B, D] the states after the last tokens of `ids` [B, L]."""
        before = length_of(self.cache) or 0
        told = {"position_ids": positions} if self.told else {}
        out = self.model.backbone(
            input_ids=ids, attention_mask=None if mask is None else mask.long(), past_key_values=self.cache,
            use_cache=True, **told,
        )
        if length_of(self.cache) != before + ids.shape[1] or not is_used(self.cache):
            raise _other_cache(self.model)
        return out.last_hidden_state[:, -1]


class Mixed:
    """Next-token logits of one model, or of a geometric mixture of several: z = sum_i w_i z_i.

    Args:
        streams: of each model, at the same tokens.
        weights: w
    """

    def __init__(self, streams: Sequence[Stream], weights: Sequence[float]) -> None:
        self.streams, self.weights = tuple(streams), tuple(weights)
        for stream in self.streams[1:]:
            refuse_other_size(self.streams[0].model, stream.model)
        self._heads = [one.model.form.projected(one.model.output_head, one.hidden[:0]) for one in self.streams]

    def logits(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows and their logits [rows, V], some millions at a time."""
        size = max(1, linear_logps.CHUNK_ELEMENTS // len(self._heads[0].weight))
        for rows in chunks(len(self.streams[0].hidden), size):
            parts = [self._logits(index, rows) for index in range(len(self.streams))]
            mixed = (weight * part for weight, part in zip(self.weights, parts, strict=True))
            yield rows, parts[0] if len(parts) == 1 else sum(mixed)

    def step(self, tokens: Tensor) -> None:
        """Reads the newest token of each row [B]."""
        for stream in self.streams:
            stream.step(tokens)

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows alone."""
        for stream in self.streams:
            stream.select(rows)

    def _logits(self, index: int, rows: slice) -> Tensor:
        form, head = self.streams[index].model.form, self._heads[index]
        hidden = self.streams[index].hidden[rows]
        hidden = hidden if form.before == 1.0 else hidden * form.before
        return dataclasses.replace(head, hidden=hidden.to(head.weight.dtype)).logits()


def _arguments(model: LanguageModel) -> Collection[str]:
    return inspect.signature(model.backbone.forward).parameters.keys()


def _other_cache(model: LanguageModel) -> InputError:
    return InputError(
        f"model.sampler: {type(model.base).__name__} keeps its cache in a way of its own, which NativeSampler does not "
        "know; use HFSampler"
    )
