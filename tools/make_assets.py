"""Makes lit_rlhf/assets/reviews: the tokenizer and the tiny Llama that writes like the grammar of the built-in task.

    python tools/make_assets.py [OUT]

The model is trained on every context at once, weighted by how often the grammar gets there, so there is no sampling
and the result is the same on every run of the same machine. It takes about a minute on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lit_rlhf.data import grammar

STEPS, PEAK = 600, 3e-3


def tokenizer() -> PreTrainedTokenizerFast:
    """Words separated by spaces; a word outside the vocabulary is an error, and padding borrows EOS."""
    words = Tokenizer(models.WordLevel({token: index for index, token in enumerate(grammar.TOKENS)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=grammar.EOS, pad_token=grammar.EOS, model_max_length=32)


def model() -> LlamaForCausalLM:
    """About 90,000 parameters at random."""
    torch.manual_seed(0)
    eos = len(grammar.WORDS)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(grammar.TOKENS), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, bos_token_id=None, eos_token_id=eos, pad_token_id=eos, tie_word_embeddings=False,
    ))


def contexts(prompt: str) -> tuple[Tensor, Tensor, Tensor]:
    """All ways to write two words: ids [256, P + 2], the law of the next token [256, 3, V], how often it matters [256, 3]."""
    steps = {word: grammar.next_token(prompt, word) for word in grammar.WORDS}
    start = steps[prompt.split()[-1]]
    ids, laws, weights = [], [], []
    for first_id, first in enumerate(grammar.WORDS):
        for second_id, second in enumerate(grammar.WORDS):
            ids.append([*grammar.encoded(prompt), first_id, second_id])
            laws.append(np.stack([start, steps[first], steps[second]]))
            reached = start[first_id]
            weights.append([1 / len(grammar.WORDS) ** 2, reached / len(grammar.WORDS), reached * steps[first][second_id]])
    return torch.tensor(ids), torch.tensor(np.stack(laws)), torch.tensor(weights)


def divergence(net: LlamaForCausalLM, prompt: str) -> Tensor:
    """[] KL(grammar || model) of whole responses to one prompt, in nats."""
    ids, law, weight = contexts(prompt)
    logps = net(ids).logits[:, -3:].double().log_softmax(-1)
    return (weight[..., None] * law * (law.log() - logps)).sum()


def train(net: LlamaForCausalLM) -> float:
    """The mean divergence over prompts at the end."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=STEPS)
    for _ in range(STEPS):
        loss = torch.stack([divergence(net, prompt) for prompt in grammar.PROMPTS]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(torch.stack([divergence(net, prompt) for prompt in grammar.PROMPTS]).mean())


def main(out: Path) -> None:
    net, words = model(), tokenizer()
    print(f"{sum(weight.numel() for weight in net.parameters()):,} parameters")
    print(f"KL(grammar || model) = {train(net):.2e} nats")
    net.generation_config = GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, max_new_tokens=grammar.MAX_WORDS)
    net.save_pretrained(out)
    words.save_pretrained(out)
    print(f"{sum(file.stat().st_size for file in out.iterdir()) / 1e6:.2f} MB in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "lit_rlhf" / "assets" / "reviews")
