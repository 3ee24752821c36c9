"""Every config of configs/ as a run of a few items."""

from __future__ import annotations

import copy
import functools
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from lit_rlhf.cli import build

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PROMPTS = 6


def tool(name: str) -> ModuleType:
    """A command of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


invariance = tool("invariance")


@functools.cache
def _built(arguments: tuple[str, ...]) -> tuple:
    return build(list(arguments))


def fresh(arguments: list[str]) -> tuple:
    """What `build` gives, read from the file once: no weights are there yet, and copies are independent."""
    return copy.deepcopy(_built(tuple(arguments)))


@dataclass(frozen=True)
class Run:
    """What was trained, and the weights it began with: all that are trained, and those of the reference's own model."""

    algorithm: LightningModule
    start: dict[str, Tensor]
    base: list[Tensor]


def fit(path: Path, items: int, **trainer) -> Run:
    """The config's first items (updates, or iterations of several), with its own optimizer."""
    seed_everything(0, verbose=False)
    sizes = {"batch_size": PROMPTS, "size": 3 * PROMPTS, "val_size": 4}
    algorithm, data = fresh(["--config", str(path), *(f"--data.{name}={value}" for name, value in sizes.items())])
    steps = invariance.limit(algorithm, items)
    algorithm.configure_model()
    run, resume = Run(algorithm, weights(algorithm), of_reference(algorithm)), trainer.pop("ckpt_path", None)
    settings = {"limit_val_batches": 0, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, use_distributed_sampler=False,
        num_sanity_val_steps=0, **settings | {"enable_checkpointing": bool(trainer.get("callbacks"))} | trainer,
    ).fit(algorithm, data, ckpt_path=resume)
    return run


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies of everything trained."""
    return {name: weight.detach().clone() for name, weight in module.named_parameters() if weight.requires_grad}


def of_reference(algorithm: LightningModule) -> list[Tensor]:
    """Copies of the weights of a reference's own model; none where it has none."""
    held = vars(algorithm.reference).values() if algorithm.reference else ()
    models = [part for part in held if isinstance(part, nn.Module)]
    return [weight.detach().clone() for model in models for weight in model.parameters()]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
