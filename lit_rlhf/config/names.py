"""The name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SYNONYMS = {
    "beta": ("tau",),
    "alpha": ("tau",),
    "kl_coef": ("tau",),
    "kl_coeff": ("tau",),
    "kl_penalty": ("tau",),
    "temperature": ("tau",),
    "learning_rate": ("lr", "optimizer"),
    "max_lr": ("lr", "optimizer"),
    "batch": ("batch_size",),
    "train_batch_size": ("batch_size",),
    "global_batch_size": ("batch_size",),
    "per_device_train_batch_size": ("batch_size", "micro_batch_tokens"),
    "per_device_eval_batch_size": ("batch_size", "micro_batch_tokens"),
    "micro_batch_size": ("micro_batch_tokens",),
    "gradient_accumulation_steps": ("micro_batch_tokens", "batch_size"),
    "gradient_accumulation": ("micro_batch_tokens", "batch_size"),
    "accumulate_grad_batches": ("micro_batch_tokens", "batch_size"),
    "max_seq_length": ("max_length",),
    "max_seq_len": ("max_length",),
    "cutoff_len": ("max_length",),
    "max_completion_length": ("max_length",),
    "num_train_epochs": ("max_epochs",),
    "num_epochs": ("max_epochs",),
    "gradient_clip_val": ("max_grad_norm",),
    "clip_grad_norm": ("max_grad_norm",),
    "warmup_ratio": ("warmup", "schedule"),
    "warmup_steps": ("warmup", "schedule"),
    "lr_scheduler": ("schedule",),
    "lr_scheduler_type": ("schedule",),
    "scheduler": ("schedule",),
    "model_name_or_path": ("source", "model"),
    "pretrained_model_name_or_path": ("source", "model"),
    "model_name": ("source", "model"),
    "policy": ("actor",),
    "ref_model": ("reference",),
    "reference_model": ("reference",),
    "reward_model": ("reward",),
    "value_model": ("critic",),
    "num_generations": ("group_size",),
    "loss_type": ("link", "loss"),
    "torch_dtype": ("dtype", "precision"),
    "attn_implementation": ("attention",),
    "peft_config": ("lora",),
    "lora_rank": ("rank",),
    "r": ("rank",),
    "lora_alpha": ("alpha",),
    "dataset": ("train", "data"),
    "dataset_name": ("train", "data"),
    "train_file": ("train", "data"),
    "max_norm": ("max_grad_norm",),
}
"""Names of other libraries and papers, and what is said here; the first that is valid at the place is offered."""


def nearest(name: str, valid: Iterable[str], count: int = 1, cutoff: float = 0.55) -> list[str]:
    """The valid names that `name` was probably meant to be, at most `count`, the best first."""
    valid = list(dict.fromkeys(valid))
    meant = [known for known in SYNONYMS.get(name, ()) if known in valid]
    folded = {known.lower(): known for known in reversed(valid)}
    close = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, count + 1, cutoff)]
    return list(dict.fromkeys(meant + close))[:count]


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The end of a sentence: the nearest name, or the valid names where none is near and they are few, or nothing."""
    valid = sorted(set(valid))
    near = nearest(name, valid)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there is {', '.join(valid)}" if 0 < len(valid) <= 12 else ""
