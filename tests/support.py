"""Small stand-ins for tests: a bigram policy that presents an actor's interface, and a data module of given items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lit_rlhf.components.reference import Reference
from lit_rlhf.types import PreferenceBatch, ScoredBatch, Sequences, TokenLogps

VOCABULARY = 7


class Bigram(nn.Module):
    """pi(t | previous token) = softmax(table[previous]); log-probs by a plain loop over sequences."""

    lr = None
    tokenizer = None

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed))
        self.table = nn.Parameter(table)

    def build(self) -> None:
        """Nothing to load."""

    def token_logps(self, sequences: Sequences, entropy: bool = False, collision: bool = False) -> TokenLogps:
        prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
        completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
        previous = torch.cat(
            [torch.cat([prompts[p][-1:], c[:-1]]) for p, c in zip(sequences.prompt_of.tolist(), completions, strict=True)]
        )
        logps = self.table[previous].log_softmax(-1)
        entropies = -(logps.exp() * logps).sum(-1) if entropy else None
        collisions = logps.detach().exp().square().sum(-1).log() if collision else None
        return TokenLogps(logps.gather(1, sequences.completion_ids[:, None])[:, 0], entropies, collisions)


class FrozenBigram(Reference):
    """A fixed bigram law as the reference."""

    mode = "bigram"
    equal_at_start = False

    def __init__(self, seed: int = 1) -> None:
        self.bigram = Bigram(seed)

    def build(self, actor: nn.Module) -> None:
        """Nothing to load."""

    @torch.no_grad()
    def token_logps(self, sequences: Sequences) -> torch.Tensor:
        return self.bigram.token_logps(sequences).values


def random_sequences(seed: int, prompts: int = 3, per_prompt: int = 2) -> Sequences:
    """Prompts of 1 to 4 tokens with `per_prompt` completions of 1 to 5 tokens each."""
    generator = torch.Generator().manual_seed(seed)

    def lengths(n: int, most: int) -> torch.Tensor:
        return torch.randint(1, most + 1, (n,), generator=generator)

    def ids(n: int) -> torch.Tensor:
        return torch.randint(VOCABULARY, (n,), generator=generator)

    prompt_lengths, completion_lengths = lengths(prompts, 4), lengths(prompts * per_prompt, 5)
    return Sequences(
        ids(int(prompt_lengths.sum())), prompt_lengths, ids(int(completion_lengths.sum())), completion_lengths,
        torch.arange(prompts).repeat_interleave(per_prompt),
    )


def preferences(seed: int, prompts: int = 3) -> PreferenceBatch:
    """One soft-labelled pair per prompt."""
    generator = torch.Generator().manual_seed(seed + 1000)
    first = torch.arange(0, 2 * prompts, 2)
    gap = torch.randn(prompts, generator=generator)
    return PreferenceBatch(random_sequences(seed, prompts), first, first + 1, torch.sigmoid(gap), gap)


def scored(seed: int, prompts: int = 3, per_prompt: int = 3) -> ScoredBatch:
    """`per_prompt` scored completions per prompt."""
    generator = torch.Generator().manual_seed(seed + 2000)
    return ScoredBatch(random_sequences(seed, prompts, per_prompt), torch.randn(prompts * per_prompt, generator=generator))


class GivenItems(LightningDataModule):
    """Train items as they are given, in order."""

    def __init__(self, items: Sequence[tuple], validation: Sequence[tuple] = ()) -> None:
        super().__init__()
        self.items, self.validation = list(items), list(validation)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.items, batch_size=None, collate_fn=_same)

    def val_dataloader(self) -> DataLoader | list:
        return DataLoader(self.validation, batch_size=None, collate_fn=_same) if self.validation else []

    def rows(self, position: int) -> tuple[str, ...]:
        return (f"given:{position}",)


def _same(item: tuple) -> tuple:
    return item


def fit(module: LightningModule, data: LightningDataModule, resume: str | None = None, **trainer) -> Trainer:
    """Trains quietly on the CPU and gives the trainer back."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "use_distributed_sampler": False} | quiet | trainer
    trainer = Trainer(**settings)
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return trainer
