"""The start-up checks, each a function of what it looks at: a line to print, or a refusal that says what to do."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch, Sequences

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Nats by which two computations of one log-probability may differ, by the dtype of the computation."""


def starts_once(sequences: Sequences, bos: int | None, stop: Sequence[int]) -> str:
    """Raises: InputError: a prompt begins with two BOS, or a completion begins with one."""
    if bos is None:
        return "BOS: this tokenizer has none"
    prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
    for index, prompt in enumerate(prompts):
        if len(prompt) > 1 and bool((prompt[:2] == bos).all()):
            raise InputError(
                f"prompt {index} of the first item begins with two BOS tokens (id {bos}): the text has one already. "
                "Leave it out of the text, or encode without special tokens"
            )
    firsts = sequences.completion_ids[sequences.completion_lengths.cumsum(0) - sequences.completion_lengths]
    if bos not in stop and bool((firsts == bos).any()):
        raise InputError(f"a completion of the first item begins with BOS (id {bos}), in the middle of the sequence")
    return f"BOS: at most one (id {bos}), at the start"


def ends_by_a_stop(sequences: Sequences, stop: Sequence[int], spelt: Sequence[str]) -> str:
    """Raises: InputError: no completion ends by a token of the stop set, or one does and the token is not trained."""
    last = sequences.completion_lengths.cumsum(0) - 1
    ended = torch.isin(sequences.completion_ids[last], torch.tensor(list(stop), device=last.device))
    named = ", ".join(f"{text!r} ({token})" for token, text in zip(stop, spelt, strict=True))
    if not bool(ended.any()):
        found = int(sequences.completion_ids[last[0]])
        raise InputError(
            f"none of the {len(last)} completions of the first item ends by a token of the stop set {{{named}}} (the "
            f"first ends by id {found}): the model would never learn to stop. Complete the texts, or give the "
            "tokenizer the template's terminator"
        )
    whole = sequences.token_weight[last][ended]
    row = sequences.token_weight.split(sequences.completion_lengths.tolist())
    trained = torch.tensor([bool((weights > 0).any()) for weights in row], device=last.device)[ended]
    if bool(((whole <= 0) & trained).any()):
        raise InputError(
            f"a completion of the first item ends by a token of the stop set {{{named}}} that has weight 0: train it"
        )
    return f"stop set: {named}; {int(ended.sum())} of {len(ended)} completions end by it, trained"


def has_trained_tokens(batches: Sequence[Batch]) -> str:
    """Raises: InputError: every token has weight 0."""
    trained = sum(int((batch.sequences.token_weight > 0).sum()) for batch in batches)
    tokens = sum(len(batch.sequences.completion_ids) for batch in batches)
    if not trained:
        raise InputError(f"none of the {tokens} completion tokens of the first item is trained: all weights are 0")
    return f"trained tokens: {trained} of {tokens} completion tokens in the first item"


def reference_agrees(
    policy: Tensor, reference: Tensor, mode: str, equal: bool, dtype: torch.dtype = torch.float32
) -> str:
    """Raises: InputError: the policy differs from a reference that is its copy, or equals one that is not.

    Args:
        policy: [T] log-probabilities before the first update.
        reference: [T]
        mode: the reference's word for itself.
        equal: whether it should agree with the policy now.
        dtype: the coarsest of the two computations.
    """
    apart = float((policy - reference).abs().max())
    if equal and not apart <= TOLERANCE[dtype]:
        raise InputError(
            f"the reference ({mode}) should equal the policy before the first update, and a log-probability differs by "
            f"{apart:.3g} nats: it was built from other weights"
        )
    if not equal and apart == 0.0:
        raise InputError(
            f"the reference ({mode}) should differ from the policy, and every log-probability is the same: its weights "
            "are the policy's. Name another model, or use FrozenCopy"
        )
    found = "equals the policy" if equal else f"differs from the policy by up to {apart:.3g} nats"
    return f"reference: {mode}; {found}"


def head_agrees(apart: float, dtype: torch.dtype) -> str:
    """Raises: InputError: the chunked head differs from a dense log-softmax.

    Args:
        apart: largest difference of a token's log-probability, in nats.
        dtype: of the weights.
    """
    if not apart <= TOLERANCE[dtype]:
        raise InputError(
            f"the chunked head gives log-probabilities {apart:.3g} nats from the model's own logits: this architecture "
            "does more to its logits than a linear head, a scale and a soft cap. Please report the model's class"
        )
    return f"head: the chunked head agrees with dense logits to {apart:.1g} nats"


def reward_reloads(reward: RewardModel, sequences: Sequences) -> str:
    """Raises: InputError: a reward model does not give the same scores once saved and read again.

    The head is 0 before the first update, so another one stands in for it here.
    """
    kept, dtype = reward.head, next(reward.parameters()).dtype
    reward.head = copy.deepcopy(kept)
    torch.nn.init.normal_(reward.head.weight)
    try:
        with tempfile.TemporaryDirectory() as folder:
            reward.save(folder)
            again = RewardModel(LanguageModel(folder, dtype=str(dtype).removeprefix("torch.")))
            again.build(frozen=True)
            again.to(sequences.prompt_ids.device)
            score, reread = reward.score(sequences), again.score(sequences)
    finally:
        reward.head = kept
    apart = float(((score - reread).abs() / score.abs().clamp_min(1.0)).max())
    if not apart <= TOLERANCE[dtype]:
        raise InputError(
            f"the reward model gives scores {apart:.3g} apart once saved and read again: a weight is lost on the way"
        )
    return "reward model: saved and read again, the same scores"


def everything_is_saved(module: LightningModule) -> str:
    """Raises: InputError: a trained weight is not in the state that checkpoints hold."""
    state = module.state_dict()
    missing = [name for name, weight in module.named_parameters() if weight.requires_grad and name not in state]
    if missing:
        raise InputError(
            f"{len(missing)} trained weights are not in the checkpoint, {missing[0]} first: the part would not reload"
        )
    return f"checkpoint: all {sum(weight.requires_grad for weight in module.parameters())} trained tensors are in it"
