"""Which prompts of an iteration make which update: a function of seed, iteration and epoch, not of ranks or memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lit_rlhf.data import plan
from lit_rlhf.errors import InputError
from lit_rlhf.ranks import largest_over_ranks
from lit_rlhf.types import Batch, PreferenceBatch, Rollout, split_groups


def orders(places: int, minibatches: int, seed: int, iteration: int, epoch: int) -> tuple[np.ndarray, ...]:
    """The places 0..places-1 of an iteration's prompts, shuffled and cut into `minibatches` parts of nearly equal size."""
    order = np.random.default_rng([seed, iteration, epoch]).permutation(places)
    return tuple(part for part in np.array_split(order, minibatches) if len(part))


def micro_batches(batch: Batch, index: Tensor, part: np.ndarray, token_budget: int) -> tuple[Batch, ...]:
    """This rank's share of one update: as many micro-batches as every other rank, under the budget.

    Where this rank has fewer groups in it than another has micro-batches, its smallest group is repeated with weight 0.

    Args:
        batch: all sequences of this rank's iteration.
        index: [N] the place of each of its prompts in the iteration, over all ranks.
        part: the places that this update is made of.
        token_budget: most tokens of a micro-batch, a prompt counted once.

    Raises:
        InputError: one group alone is larger than the budget.
    """
    tokens = batch.sequences.group_tokens().tolist()
    refuse_large(tokens, token_budget)
    own = tuple(np.flatnonzero(np.isin(index.cpu().numpy(), part)).tolist())
    bins = plan.packed(own, tokens, token_budget)
    count = largest_over_ranks(len(bins), batch.sequences.prompt_of.device)
    return tuple(_selected(batch, made) for made in plan.in_step(bins, count, tokens))


def refuse_large(tokens: Sequence[int], token_budget: int) -> None:
    """Raises: InputError: a group has more tokens than a micro-batch may."""
    if tokens and max(tokens) > token_budget:
        raise InputError(
            f"a prompt and its completions have {max(tokens)} tokens together, more than data.micro_batch_tokens="
            f"{token_budget}. Set data.micro_batch_tokens to {max(tokens)} or more (it changes no result), or sample "
            "fewer or shorter completions (model.group_size, model.sampler.max_new_tokens)"
        )


def _selected(batch: Batch, made: plan.MicroBatch) -> Batch:
    prompts = torch.tensor(made.groups, device=batch.sequences.prompt_of.device)
    found = batch.select(torch.isin(batch.sequences.prompt_of, prompts).nonzero()[:, 0])
    return found if made.counted else weightless(found)


def weightless(batch: Batch) -> Batch:
    """The same with every weight 0: it changes no sum and no count."""
    sequences = dataclasses.replace(batch.sequences, weight=torch.zeros_like(batch.sequences.token_weight))
    if isinstance(batch, PreferenceBatch):
        drawn = None if batch.drawn is None else weightless(batch.drawn)
        return dataclasses.replace(batch, sequences=sequences, weight=torch.zeros_like(batch.probability), drawn=drawn)
    if isinstance(batch, Rollout):
        return dataclasses.replace(batch, sequences=sequences, weight=torch.zeros_like(batch.reward))
    raise TypeError(f"{type(batch).__name__} is no batch of sampled sequences")


def in_parts(batch: Batch, token_budget: int) -> Iterator[tuple[Tensor, Batch]]:
    """The batch in parts of whole groups under the budget, each with the indices of its sequences."""
    refuse_large(batch.sequences.group_tokens().tolist(), token_budget)
    for which in split_groups(batch.sequences, token_budget):
        yield which, batch.select(which)
