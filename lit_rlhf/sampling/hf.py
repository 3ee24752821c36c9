"""Sampling by `generate` of transformers, for models whose cache is their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.sampling.drawing import pick
from lit_rlhf.sampling.limits import room
from lit_rlhf.sampling.loop import Plan, Step, Tails, assembled, rows_of
from lit_rlhf.sampling.native import NativeSampler, sampling
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Prompts, Samples


class HFSampler(NativeSampler):
    """Completions by `generate`: any model that transformers can generate with, at about its speed.

    Prompts of equal length share a batch, so that nothing is padded. A processor of ours stands in the place of
    transformers' warpers and draws as `NativeSampler` does: the completions are the same, and no random state moves.
    Nothing is taken from the model's generation settings but the ids that end a completion.

    The arguments are those of `NativeSampler`.
    """

    @torch.no_grad()
    def sample(self, policy: LanguageModel, prompts: Prompts, group_size: int, draw: int) -> Samples:
        limits, stop = room(policy, prompts, self.max_new_tokens), StopSet.of(policy, self.stop)
        plan = Plan(policy, prompts, limits, group_size, self.processing, stop, (self.seed, draw))
        with sampling(policy):
            batches = plan.batches(self.batch_tokens, padding=False)
            return assembled(plan, [step for batch in batches for step in _generated(policy, plan, batch)])


def _generated(policy: LanguageModel, plan: Plan, batch: Sequence[int]) -> list[Step]:
    """The tokens of the completions `batch`, whose prompts are of one length."""
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    drawing = _Drawing(plan, batch)
    prompts = plan.prompts.prompt_ids.split(plan.prompts.prompt_lengths.tolist())
    ids = torch.stack([prompts[one // plan.group_size] for one in batch])
    settings = GenerationConfig(do_sample=False, max_new_tokens=drawing.most, pad_token_id=0, eos_token_id=None)
    with _settings(policy, settings):
        policy.net.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), logits_processor=LogitsProcessorList([drawing]),
            stopping_criteria=StoppingCriteriaList([lambda ids, scores, **rest: drawing.done]),
        )
    return drawing.steps


class _Drawing:
    """A processor of logits that draws the token itself and leaves no other."""

    def __init__(self, plan: Plan, batch: Sequence[int]) -> None:
        self.plan, self.steps = plan, []
        self.completion, limits, self.uniform = rows_of(plan, batch)
        self.most, self.tails = int(limits.max()), Tails(plan.stop, len(batch))
        self.done = torch.zeros_like(limits, dtype=torch.bool)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn = pick(scores.float(), self.plan.processing, self.uniform[:, len(self.steps)])
        ended, alive = self.tails.ended(drawn.tokens), (~self.done).nonzero()[:, 0]
        self.steps.append(Step(self.completion[alive], ended[alive], drawn.select(alive)))
        self.done = self.done | ended
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn.tokens[:, None], 0.0)


@contextlib.contextmanager
def _settings(policy: LanguageModel, settings: Any) -> Iterator[None]:
    """Generation fills what is left open from the model's own settings, so these take their place."""
    base = policy.base
    before, cache = base.generation_config, base.config.use_cache
    base.generation_config, base.config.use_cache = settings, True
    try:
        yield
    finally:
        base.generation_config, base.config.use_cache = before, cache
