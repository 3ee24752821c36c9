"""Options of Lightning that do not go with manual optimisation, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CLIPPING = "is Lightning's own, which manual optimisation rules out; write model.max_grad_norm"
ACCUMULATION = (
    "is Lightning's own; an optimizer step takes data.batch_size prompts however many devices there are, and "
    "data.micro_batch_tokens says how many tokens are in memory at once"
)
NOT_HERE = {
    "gradient_clip_val": (None, CLIPPING),
    "gradient_clip_algorithm": (None, f"{CLIPPING}, which clips the norm"),
    "accumulate_grad_batches": (1, ACCUMULATION),
    "overfit_batches": (0, "repeats batches, which the data plan does not know; write trainer.limit_train_batches"),
}
"""Argument of the Trainer -> the value that does nothing, and the sentence for every other."""
ELSEWHERE = {
    "optimizer": "the optimizer is a part of the algorithm; write model.optimizer",
    "lr_scheduler": "the schedule is a part of the algorithm; write model.schedule",
}
"""Top-level keys that LightningCLI knows in other projects."""


def refusals(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys and sentences."""
    yield from ((key, sentence) for key, sentence in ELSEWHERE.items() if key in tree)
    trainer = tree.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    for key, (idle, sentence) in NOT_HERE.items():
        if trainer.get(key) not in (None, idle):
            yield f"trainer.{key}", sentence
    strategy = trainer.get("strategy")
    name = strategy.get("class_path") if isinstance(strategy, Mapping) else strategy
    if isinstance(name, str):
        yield from (("trainer.strategy", sentence) for sentence in _of_strategy(name))
    if isinstance(trainer.get("accelerator"), str):
        yield from (("trainer.accelerator", sentence) for sentence in _of_accelerator(trainer["accelerator"]))


def _of_strategy(name: str) -> Iterator[str]:
    from lightning.pytorch.strategies import StrategyRegistry

    from lit_rlhf.config.names import did_you_mean

    known = [one for one in StrategyRegistry.available_strategies() if not _is_fsdp1(one)]
    if _is_fsdp1(name):
        instead = "fsdp2" if "fsdp2" in known else "ddp"
        yield f"{name} shards by FSDP1, which breaks the clipping of norms; write trainer.strategy={instead}"
    elif "." not in name and name.islower() and name not in ("auto", *known):
        yield f"there is no strategy {name}{did_you_mean(name, known)}"


def _is_fsdp1(name: str) -> bool:
    return name == "fsdp" or name.startswith("fsdp_") or name.rpartition(".")[2] == "FSDPStrategy"


def _of_accelerator(name: str) -> Iterator[str]:
    from lightning.pytorch.accelerators import AcceleratorRegistry

    from lit_rlhf.config.names import did_you_mean

    known = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    if "." not in name and name.islower() and name not in known:
        yield f"there is no accelerator {name}{did_you_mean(name, known)}"
