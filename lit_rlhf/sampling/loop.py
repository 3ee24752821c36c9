"""Batches of completions, each from its prompts to the end of its last row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_rlhf.sampling.cache import remaining
from lit_rlhf.sampling.decoding import Mixed, Stream
from lit_rlhf.sampling.drawing import Drawn, joined, pick, uniforms
from lit_rlhf.sampling.mixture import Sampled, parts_of
from lit_rlhf.sampling.processing import Processing
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Law, Prompts, Samples, Sequences


@dataclass(frozen=True)
class Plan:
    """What all batches of a call share."""

    sampled: Sampled
    prompts: Prompts
    limits: Sequence[int]
    """N greatest numbers of new tokens."""
    group_size: int
    processing: Processing
    stop: StopSet
    seed: tuple[int, int]
    """Of the sampler, and of the draw."""

    def batches(self, tokens: int, padding: bool) -> list[list[int]]:
        """Completions, numbered prompt by prompt, of each batch.

        Prompts go from the longest to the shortest. A batch ends where one more row would pass the number of `tokens`,
        where that row would be more than half padding, and, without `padding`, with the length of its prompts.
        """
        lengths = self.prompts.prompt_lengths.tolist()
        found, widest = [], (0, 0)
        for prompt in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
            size = (lengths[prompt], max(widest[1], self.limits[prompt]))
            for completion in range(prompt * self.group_size, (prompt + 1) * self.group_size):
                apart = 2 * sum(size) < widest[0] + size[1] if padding else size[0] != widest[0]
                if apart or not found or (len(found[-1]) + 1) * (widest[0] + size[1]) > tokens:
                    found.append([])
                    widest = (lengths[prompt], self.limits[prompt])
                widest = (widest[0], max(widest[1], self.limits[prompt]))
                found[-1].append(completion)
        return found


@dataclass(frozen=True)
class Step:
    """One token of B completions."""

    completion: Tensor
    """[B] numbers of the completions."""
    ended: Tensor
    """[B] bool: by the stop set, with this token."""
    drawn: Drawn


def run(plan: Plan, batch: Sequence[int]) -> list[Step]:
    """The tokens of the completions `batch`, a step at a time; rows leave with their last token."""
    completion, limits, uniform = rows_of(plan, batch)
    mixed, tails, found = _started(plan, completion, int(limits.max())), Tails(plan.stop, len(batch)), []
    while True:
        step = len(found)
        drawn = joined([pick(logits, plan.processing, uniform[rows, step]) for rows, logits in mixed.logits()])
        found.append(Step(completion, tails.ended(drawn.tokens), drawn))
        done, tokens = found[-1].ended | (limits == step + 1), drawn.tokens
        if bool(done.all()):
            return found
        if bool(done.any()):
            rows = remaining(done)
            mixed.select(rows)
            tails.select(rows)
            completion, limits, uniform, tokens = (one[rows] for one in (completion, limits, uniform, tokens))
        mixed.step(tokens)


class Tails:
    """The newest tokens of B completions, where strings are looked for in them."""

    def __init__(self, stop: StopSet, rows: int) -> None:
        self.stop = stop
        self._ids: list[list[int]] = [[] for _ in range(rows if stop.strings else 0)]

    def ended(self, tokens: Tensor) -> Tensor:
        """[B] bool: whether the next tokens [B] end their completions."""
        if self.stop.strings:
            pairs = zip(self._ids, tokens.tolist(), strict=True)
            self._ids = [[*tail[1 - self.stop.window :], token] for tail, token in pairs]
        return self.stop.ended(tokens, self._ids)

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows alone."""
        self._ids = [self._ids[row] for row in rows.tolist()] if self._ids else []


def rows_of(plan: Plan, batch: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the completions `batch`: their numbers [B], the most new tokens of each [B], and uniform numbers [B, most]."""
    device, index, size = plan.prompts.prompt_ids.device, plan.prompts.index.tolist(), plan.group_size
    limits = [plan.limits[one // size] for one in batch]
    own = [uniforms(*plan.seed, index[one // size], one % size, max(limits)) for one in batch]
    uniform = torch.from_numpy(np.stack(own)).to(device)
    return torch.tensor(batch, device=device), torch.tensor(limits, device=device), uniform


def assembled(plan: Plan, steps: Sequence[Step]) -> Samples:
    """All steps of all batches as samples, completion by completion."""
    prompts, count = plan.prompts, len(plan.prompts.prompt_lengths) * plan.group_size
    completion, drawn = torch.cat([step.completion for step in steps]), joined([step.drawn for step in steps])
    order = torch.argsort(completion, stable=True)
    lengths = torch.bincount(completion, minlength=count)
    prompt_of = torch.arange(count, device=order.device) // plan.group_size
    sequences = Sequences(prompts.prompt_ids, prompts.prompt_lengths, drawn.tokens[order], lengths, prompt_of)
    ended = torch.cat([step.ended for step in steps])[order][lengths.cumsum(0) - 1]
    behaviour, policy = drawn.behaviour[order], drawn.policy[order]
    return Samples(sequences, behaviour, policy, ended, law_of(plan.processing, drawn, order))


def law_of(processing: Processing, drawn: Drawn, order: Tensor) -> Law | None:
    """The law of the tokens in this order; None where it is the policy's own, or the likeliest token was taken."""
    if processing.plain or processing.greedy:
        return None
    return Law(processing.temperature, None if drawn.kept is None else drawn.kept.select(order))


def _started(plan: Plan, completion: Tensor, most: int) -> Mixed:
    """The prompts of the completions read, once each."""
    used, rows = torch.unique(completion // plan.group_size, return_inverse=True)
    given = plan.prompts.select(used)
    ids = pad_sequence(given.prompt_ids.split(given.prompt_lengths.tolist()), batch_first=True, padding_side="left")
    parts = parts_of(plan.sampled)
    streams = [Stream(model, ids, given.prompt_lengths, rows, ids.shape[1] + most) for model, _ in parts]
    return Mixed(streams, [weight for _, weight in parts])
