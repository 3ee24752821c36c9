"""What is checked on the first item of a run, in one line each, before anything is learned from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rlhf.callbacks.checks import (
    TOLERANCE,
    ends_by_a_stop,
    everything_is_saved,
    has_trained_tokens,
    head_agrees,
    reference_agrees,
    reward_reloads,
    starts_once,
)
from lit_rlhf.components.modes import evaluating
from lit_rlhf.callbacks.random_state import RandomState
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Batch, Prompts, Sequences

LARGEST_RELOADED = 200_000_000
"""Parameters up to which a reward model is saved and read again at the start."""


class StartupChecks(Callback):
    """Prints one line per check at the first item; a failed one stops the run with what to do."""

    def __init__(self) -> None:
        self._done = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Sequence[Batch], batch_idx: int
    ) -> None:
        if self._done or not hasattr(pl_module, "parts"):
            return
        self._done = True
        random = RandomState.now()
        with torch.no_grad(), evaluating(pl_module), trainer.precision_plugin.forward_context():
            found = list(checks(trainer, pl_module, batch))
        random.restore()
        if trainer.is_global_zero:
            print("\n".join(f"  {line}" for line in found))


def checks(trainer: Trainer, module: Any, item: Sequence[Batch]) -> Iterator[str]:
    """The lines of all checks that this composition allows.

    Raises:
        InputError: one fails.
    """
    yield f"precision: {trainer.precision} on {trainer.strategy.root_device.type}"
    if not isinstance(item[0], Prompts):
        yield has_trained_tokens(item)
    yield everything_is_saved(module)
    sequences = ended(item[0], StopSet.of(module.actor.model).ids) if isinstance(item[0], Prompts) else item[0].sequences
    few = sequences.select(torch.arange(min(4, len(sequences.completion_lengths)), device=sequences.prompt_of.device))
    for _, part in module.parts:
        if isinstance(part, Actor | RewardModel):
            yield from _text_checks(part.model, sequences, given=not isinstance(item[0], Prompts))
        if isinstance(part, Actor):
            yield head_agrees(part.head_parity(few), _coarsest(trainer, part))
        if isinstance(part, RewardModel) and trainer.is_global_zero and _size(part) <= LARGEST_RELOADED:
            yield reward_reloads(part, few)  # transformers writes on the first rank alone
    if module.reference is not None and trainer.global_step == 0:
        yield _reference_check(trainer, module, few)
    if module.samples and "advantages" in module.loss.needs and module.replay is None and trainer.global_step == 0:
        yield (
            "what looks odd and is right: at the first update of an iteration every ratio is 1 and nothing is clipped, and the "
            "policy's loss is about 0 wherever advantages have mean 0; watch reward/total, train/grad_norm and train/policy_kl"
        )


def ended(prompts: Prompts, stop: Sequence[int]) -> Sequences:
    """Every prompt with an empty completion: its terminator alone."""
    lengths = prompts.prompt_lengths
    ends = torch.full_like(lengths, stop[0] if stop else 0)
    each = torch.arange(len(lengths), device=lengths.device)
    return Sequences(prompts.prompt_ids, lengths, ends, torch.ones_like(lengths), each)


def _size(part: RewardModel) -> int:
    return sum(weight.numel() for weight in part.parameters())


def _text_checks(model: LanguageModel, sequences: Sequences, given: bool) -> Iterator[str]:
    stop, tokenizer = StopSet.of(model).ids, model.tokenizer
    yield starts_once(sequences, tokenizer.bos_token_id, stop)
    if given:
        yield ends_by_a_stop(sequences, stop, tokenizer.convert_ids_to_tokens(list(stop)))


def _reference_check(trainer: Trainer, module: Any, sequences: Sequences) -> str:
    reference, actor = module.reference, module.actor
    own, its = (getattr(getattr(part, "model", None), "source", None) for part in (actor, reference))
    equal = reference.equal_at_start or (own is not None and own == its)
    dtype = _coarsest(trainer, actor, getattr(reference, "model", None))
    policy = actor.token_logps(sequences).values
    return reference_agrees(policy, reference.token_logps(sequences), reference.mode, equal, dtype)


def _coarsest(trainer: Trainer, *modules: Any) -> torch.dtype:
    """Of the weights and of the arithmetic."""
    dtypes = {next(module.parameters()).dtype for module in modules if module is not None}
    dtypes |= {torch.bfloat16} if str(trainer.precision).startswith("bf16") else set()
    return max(dtypes, key=TOLERANCE.__getitem__)
