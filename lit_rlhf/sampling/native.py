"""Sampling by a loop of our own over any causal model of transformers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from lit_rlhf.components.modes import evaluating
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.sampling.decoding import accepts_padding
from lit_rlhf.sampling.limits import refuse_settings, room
from lit_rlhf.sampling.loop import Plan, assembled, run
from lit_rlhf.sampling.mixture import Sampled, parts_of, policy_of
from lit_rlhf.sampling.processing import Processing
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Prompts, Samples


class NativeSampler(Sampler):
    """Completions by a cached loop: a prompt is computed once for its group, and finished rows leave the batch.

    A token is drawn by inverting the cumulative law at a uniform number that belongs to the seed, the draw, the prompt,
    the place in the group and the token; what else is in the batch moves logits by rounding alone.

    Args:
        max_new_tokens: a completion is cut there, or where the model knows no further position.
        temperature: 0 takes the likeliest token, for validation; `behaviour` is then the policy's own log-prob.
        top_k: keeps the likeliest tokens, so many.
        top_p: keeps the fewest likeliest tokens with so much of the probability.
        min_p: keeps tokens with at least so much of the largest probability.
        stop: strings that end a completion, besides the tokens that do.
        seed: of the draws.
        batch_tokens: tokens whose keys and values are held at a time, padding included; no result depends on it.

    Raises:
        InputError: a setting outside its range.
    """

    def __init__(
        self,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
        batch_tokens: int = 65_536,
    ) -> None:
        refuse_settings(max_new_tokens, seed, batch_tokens)
        self.max_new_tokens, self.stop, self.seed, self.batch_tokens = max_new_tokens, tuple(stop), seed, batch_tokens
        self.processing = Processing(temperature, top_k, top_p, min_p)

    @torch.no_grad()
    def sample(self, policy: Sampled, prompts: Prompts, group_size: int, draw: int) -> Samples:
        """As every sampler; a `Mixture` may stand for the policy."""
        model = policy_of(policy)
        limits, stop = room(model, prompts, self.max_new_tokens), StopSet.of(model, self.stop)
        plan = Plan(policy, prompts, limits, group_size, self.processing, stop, (self.seed, draw))
        padding = all(accepts_padding(one) for one, _ in parts_of(policy))
        with sampling(policy):
            steps = [step for batch in plan.batches(self.batch_tokens, padding) for step in run(plan, batch)]
        return assembled(plan, steps)


@contextlib.contextmanager
def sampling(sampled: Sampled) -> Iterator[None]:
    """Every model without dropout. Under autocast, weights are cast once and not for every token, as they are now."""
    models = [model for model, _ in parts_of(sampled)]
    kind = next(models[0].parameters()).device.type
    with contextlib.ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model.net))
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=True))
        torch.clear_autocast_cache()
        yield
    torch.clear_autocast_cache()
