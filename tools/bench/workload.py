"""What both sides of `step.py` are given: start weights, a tokenizer, and rows of token ids in training order."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from make_lengths import read_lengths

PAIRS_PER_STEP = 8
VOCABULARY = 32_000
SEED = 45
"""Its first two measured steps have about the tokens and the padding of a mean step of hh_harmless."""
LEARNING_RATE = 1e-4
TAU = 0.1
MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "pad_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "bos_token_id": None,
}


Row = tuple[list[int], list[int], list[int]]
"""Token ids of prompt, chosen and rejected; both completions end with the terminator."""


@dataclass(frozen=True)
class Workload:
    """Rows of (prompt, chosen, rejected) token ids; every `PAIRS_PER_STEP` of them are one optimizer step."""

    name: str
    warmup: int
    steps: int
    rows: list[Row]

    @property
    def items(self) -> list[list[Row]]:
        """The rows of each optimizer step."""
        return [self.rows[start : start + PAIRS_PER_STEP] for start in range(0, len(self.rows), PAIRS_PER_STEP)]

    def tokens(self) -> dict[str, int]:
        """Tokens of the measured steps: the prompt counted twice (raw), once (unique), and with padding (padded)."""
        sizes = [[tuple(map(len, row)) for row in item] for item in self.items[self.warmup :]]
        widest = [2 * len(item) * max(p + max(c, r) for p, c, r in item) for item in sizes]
        flat = [row for item in sizes for row in item]
        completions = sum(c + r for _, c, r in flat)
        prompts = sum(p for p, _, _ in flat)
        return {"raw": 2 * prompts + completions, "unique": prompts + completions, "padded": sum(widest)}

    def save(self, folder: Path) -> None:
        (folder / "workload.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Workload:
        return cls(**json.loads((folder / "workload.json").read_text()))


def make_workload(lengths: str, warmup: int, steps: int, seed: int = SEED) -> Workload:
    """Random ids at the lengths of hh_harmless, drawn without replacement, or at equal lengths written `512,128`."""
    generator = random.Random(seed)
    count = PAIRS_PER_STEP * (warmup + steps)
    if lengths == "hh_harmless":
        sizes = generator.sample(read_lengths(), count)
    else:
        prompt, completion = map(int, lengths.split(","))
        sizes = [(prompt, completion, completion)] * count
    end = VOCABULARY - 1
    draw = lambda size: [generator.randrange(VOCABULARY - 2) for _ in range(size)]  # noqa: E731
    rows = [(draw(prompt), [*draw(chosen - 1), end], [*draw(rejected - 1), end]) for prompt, chosen, rejected in sizes]
    return Workload(lengths, warmup, steps, rows)


def write_start(folder: Path) -> None:
    """The start weights (random, in float32) and the tokenizer, as a folder of Hugging Face."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from words import make_tokenizer

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**MODEL)).save_pretrained(folder)
    make_tokenizer(VOCABULARY).save_pretrained(folder)
