"""Random language models of a few thousand weights, what they say computed plainly, and runs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.types import Sequences

VOCABULARY = 23
SHARED = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}
EXPERTS = {"head_dim": 8, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0},
    "gpt2": {},
    "mistral": {"sliding_window": 4},
    "phi": {},  # a bias in the output head
    "phi3": {"pad_token_id": 3},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 6.0},
    "minicpm3": LATENT | {"dim_model_base": 4},  # a factor of the state
    "bloom": {},  # no positions but the distances in the attention mask
    "qwen3_moe": EXPERTS,
    "recurrent_gemma": {"head_dim": 8, "lru_width": 16},  # a recurrence, and a soft cap
}


def config(name: str = "llama", **options: Any) -> dict[str, Any]:
    """Arguments for `LanguageModel.config`."""
    return {"model_type": name} | SHARED | ARCHITECTURES.get(name, {}) | options


def model(name: str = "llama", seed: int = 0, **options: Any) -> LanguageModel:
    """A built model with larger weights than a fresh one has, so that its distributions are far from uniform."""
    torch.manual_seed(seed)
    found = LanguageModel(config=config(name), **options)
    found.build()
    spread(found.net)
    return found


@torch.no_grad()
def spread(net: nn.Module) -> None:
    """Random values for everything trained: adapters, biases and norms too."""
    for weight in net.parameters():
        if weight.requires_grad:
            weight.add_(torch.randn_like(weight), alpha=0.2)


def sequences(vocabulary: int = VOCABULARY) -> Sequences:
    """Three prompts of 5, 1 and 3 tokens; five completions of 4, 1, 7, 2 and 3, not in the order of the prompts."""
    draw = torch.Generator().manual_seed(5)
    prompts, completions = torch.tensor([5, 1, 3]), torch.tensor([4, 1, 7, 2, 3])
    ids = [torch.randint(vocabulary, (int(lengths.sum()),), generator=draw) for lengths in (prompts, completions)]
    return Sequences(ids[0], prompts, ids[1], completions, torch.tensor([2, 0, 1, 0, 2]))


def rows(given: Sequences) -> list[tuple[Tensor, Tensor]]:
    """(prompt [P], completion [C]) of each sequence."""
    prompts = given.prompt_ids.split(given.prompt_lengths.tolist())
    completions = given.completion_ids.split(given.completion_lengths.tolist())
    of = given.prompt_of.tolist()
    return [(prompts[prompt], completion) for prompt, completion in zip(of, completions, strict=True)]


def dense(net: nn.Module, given: Sequences) -> Tensor:
    """[T, V] log-softmax of the model's own logits: one sequence at a time, unpadded."""
    found = []
    for prompt, completion in rows(given):
        logits = net(input_ids=torch.cat([prompt, completion])[None], use_cache=False).logits[0]
        found.append(logits[len(prompt) - 1 : -1].float().log_softmax(-1))
    return torch.cat(found)


def states(net: nn.Module, given: Sequences) -> list[Tensor]:
    """[P + C, D] the last hidden states of each row, run alone, by a backbone."""
    return [net(input_ids=torch.cat(row)[None], use_cache=False).last_hidden_state[0] for row in rows(given)]


def make_run(folder: Path, name: str, part: nn.Module, best: nn.Module | None = None, **checkpoint: Any) -> str:
    """A run directory as training leaves it, by hand: the description of `part`, and checkpoints with its weights."""
    part.model.save_description(folder / "parts" / name)
    (folder / "checkpoints").mkdir()
    for file, held in {"last": part, "best-val_loss": best}.items():
        if held is not None:
            weights = {f"{name}.{key}": value for key, value in held.state_dict().items()}
            torch.save({"state_dict": weights, **checkpoint}, folder / "checkpoints" / f"{file}.ckpt")
    return str(folder)
