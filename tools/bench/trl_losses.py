"""TRL's own losses on a model of ours: its trainers are built by its constructors and asked for the loss of a batch.

Nothing of TRL is copied or patched. A trainer is made with a tiny Llama, because it insists on one, and then computes
its loss for `Bigram` models, which answer as the model with TRL's fused head does.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import trl
from bigram import END, PAD, VOCABULARY, Bigram, Row
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from words import as_text, make_tokenizer

Options = dict[str, Any]


def as_pairs(rows: list[Row]) -> Dataset:
    """Rows in TRL's preference format."""
    fields = ("prompt", "chosen", "rejected")
    return Dataset.from_list([dict(zip(fields, (as_text(ids, END) for ids in row), strict=True)) for row in rows])


def as_labelled(rows: list[Row]) -> Dataset:
    """Rows in TRL's unpaired format: of every pair the chosen response, then the rejected one."""
    sides = [(row[0], row[1 + side], side == 0) for row in rows for side in (0, 1)]
    texts = [(as_text(prompt, END), as_text(response, END), label) for prompt, response, label in sides]
    return Dataset.from_list([dict(zip(("prompt", "completion", "label"), row, strict=True)) for row in texts])


@dataclass(frozen=True)
class Recipe:
    """Which trainer, how its rows look, and how to ask it for a loss."""

    trainer: type
    config: type
    rows: Callable[[list[Row]], Dataset]
    loss: Callable[[Any, Bigram, Any], Tensor]
    reads_reference: bool
    rows_per_pair: int = 1


RECIPES = {
    "DPO": Recipe(trl.DPOTrainer, trl.DPOConfig, as_pairs, lambda t, m, b: t.compute_loss(m, b), True),
    "KTO": Recipe(trl.KTOTrainer, trl.KTOConfig, as_labelled, lambda t, m, b: t.compute_loss(m, b), True, 2),
    "CPO": Recipe(CPOTrainer, CPOConfig, as_pairs, lambda t, m, b: t.get_batch_loss_metrics(m, b)[0], False),
    "ORPO": Recipe(ORPOTrainer, ORPOConfig, as_pairs, lambda t, m, b: t.get_batch_loss_metrics(m, b)[0], False),
}


def step_loss(name: str, options: Options, rows: list[Row], parts: int, policy: Bigram, reference: Bigram) -> Tensor:
    """The loss of one optimizer step that accumulates `parts` micro-batches: the mean of their losses."""
    recipe, pairs = RECIPES[name], len(rows) // parts
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(recipe, options, recipe.rows(rows), pairs * recipe.rows_per_pair, folder)
        if recipe.reads_reference:
            trainer.ref_model = reference
        batches = list(trainer.get_train_dataloader())
        losses = [recipe.loss(trainer, policy, batch) for batch in batches]
    return torch.stack(losses).mean()


def make_trainer(recipe: Recipe, options: Options, data: Dataset, batch_size: int, folder: str) -> Any:
    """A trainer with TRL's defaults, in fp32 on the CPU, that takes the rows in their order."""
    arguments = recipe.config(
        output_dir=folder, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, remove_unused_columns=False,
        train_sampling_strategy="sequential", per_device_train_batch_size=batch_size, **options,
    )  # fmt: skip
    reference = {"ref_model": tiny_llama()} if recipe.reads_reference else {}
    return recipe.trainer(
        model=tiny_llama(), args=arguments, train_dataset=data, processing_class=make_tokenizer(VOCABULARY), **reference
    )


def tiny_llama() -> LlamaForCausalLM:
    """The model a trainer is constructed with; its weights are never read."""
    shape = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=64, pad_token_id=PAD, eos_token_id=END, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(shape)
