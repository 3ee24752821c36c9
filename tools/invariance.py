"""Do memory or the number of processes change the mathematics? Every config, trained in three ways and compared.

    python tools/invariance.py [CONFIG ...] [--items 3] [--prompts 8]

CONFIG is a file or the name of one in configs/; all of them without it. Each is trained on the built-in task in
float64, with its own optimizer and gradients that are clipped at every update: every step as one micro-batch, as several
uneven ones, and as several on two processes (DDP by gloo). Compared are all logged values of every item and of
validation (times aside), as shares of themselves, the weights at the end, as shares of the largest move, and every
token that was sampled. An item is an update, or an iteration of an on-line algorithm. Exit code 0 if no token differs
and nothing else beyond float rounding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import multiprocessing
import os
import socket
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from lit_rlhf.callbacks import MetricLogger
from lit_rlhf.cli import build
from lit_rlhf.config.places import find, missing
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.types import Prompts, Samples

CONFIGS = Path(__file__).parents[1] / "configs"
WHOLE, SMALL = 4096, 32
"""Tokens of a micro-batch that holds a step, and of one that holds a group or two."""
MAX_GRAD_NORM = 0.01
TOLERANCE = 1e-5
"""Rewards and counts are float32 even where models are not."""
PROCESSES = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """What a run has logged, value by value, how far its weights have moved, and what it sampled."""

    logged: dict[str, list[float]]
    moved: dict[str, Tensor]
    micro_batches: int
    updates: int
    sampled: dict[tuple[int, int], list[int]]
    """By draw and place of the prompt: the lengths of its completions and their tokens."""


class Watch(Callback):
    """Keeps every logged value but times, and every sampled token, and counts micro-batches."""

    def __init__(self) -> None:
        self.logged: dict[str, list[float]] = {}
        self.sampled: dict[tuple[int, int], list[int]] = {}
        self.micro_batches = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        update = module.update

        def counted(micro_batches: tuple, *others: object) -> object:
            self.micro_batches += len(micro_batches)
            return update(micro_batches, *others)

        module.update = counted
        if module.samples:
            module.sampler = Recording(module.sampler, self.sampled)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, item: tuple, index: int
    ) -> None:
        self._keep(trainer, ("train/", "rollout/", "reward/"))

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._keep(trainer, ("val/",))

    def _keep(self, trainer: Trainer, stages: tuple[str, ...]) -> None:
        for name, value in trainer.callback_metrics.items():
            if name.startswith(stages):
                self.logged.setdefault(name, []).append(float(value))


class Recording:
    """A sampler that writes down what it samples."""

    def __init__(self, sampler: Sampler, kept: dict[tuple[int, int], list[int]]) -> None:
        self.sampler, self.kept = sampler, kept

    def __getattr__(self, name: str) -> object:
        return getattr(self.sampler, name)

    def sample(self, policy: object, prompts: Prompts, group_size: int, draw: int) -> Samples:
        """What the sampler gives."""
        samples = self.sampler.sample(policy, prompts, group_size, draw)
        for place, prompt in enumerate(prompts.index.tolist()):
            own = samples.sequences.select((samples.sequences.prompt_of == place).nonzero()[:, 0])
            self.kept[draw, prompt] = own.completion_lengths.tolist() + own.completion_ids.tolist()
        return samples


def limit(algorithm: LightningModule, items: int) -> int:
    """Ends the run after so many items; the Trainer's `max_steps`, which counts updates.

    Few prompts make no more than two minibatches, in two epochs.
    """
    if not algorithm.samples:
        return items
    algorithm.max_iterations = items
    algorithm.epochs, algorithm.minibatches = min(algorithm.epochs, 2), min(algorithm.minibatches, 2)
    return -1


def train(config: Path, items: int, prompts: int, tokens: int, **trainer: object) -> Outcome:
    """The config's first items, in this process."""
    seed_everything(0, verbose=False)
    sizes = {"batch_size": prompts, "size": items * prompts - 1, "val_size": 7, "micro_batch_tokens": tokens}
    overrides = [f"--data.{name}={value}" for name, value in sizes.items()]
    algorithm, data = build(["--config", str(config), *overrides, f"--model.max_grad_norm={MAX_GRAD_NORM}"])
    steps = limit(algorithm, items)
    algorithm.configure_model()
    in_double(algorithm)
    before = {name: weight.detach().clone() for name, weight in algorithm.named_parameters()}
    watch = Watch()
    runner = Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, val_check_interval=items, log_every_n_steps=1,
        callbacks=[MetricLogger(), watch], num_sanity_val_steps=0, use_distributed_sampler=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **{"devices": 1} | trainer,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        runner.fit(algorithm, data)
    after = {name: weight.detach() for name, weight in algorithm.named_parameters() if weight.requires_grad}
    moved = {name: weight - before[name] for name, weight in after.items()}
    return Outcome(watch.logged, moved, watch.micro_batches, runner.global_step, watch.sampled)


def in_double(algorithm: LightningModule) -> None:
    """Parts and reference in float64, where rounding is far below what a wrong count would do."""
    algorithm.double()
    for part in vars(algorithm.reference).values() if algorithm.reference else ():
        if isinstance(part, nn.Module):
            part.double()


def train_on_two(config: Path, items: int, prompts: int, tokens: int) -> Outcome:
    """The same on two processes; what rank 0 ends with, and what both sampled."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        arguments = (port, Path(folder), config, items, prompts, tokens)
        ranks = [PROCESSES.Process(target=_rank, args=(rank, *arguments)) for rank in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            raise RuntimeError(f"{config}: exit codes {[process.exitcode for process in ranks]}")
        found = [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(2)]
    return Outcome(**found[0] | {"sampled": found[0]["sampled"] | found[1]["sampled"]})


def _rank(rank: int, port: int, folder: Path, *arguments: object) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    quiet()
    torch.save(vars(train(*arguments, strategy="ddp", devices=2)), folder / f"{rank}.pt")


def quiet() -> None:
    """What Lightning says is not what this command is about."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def difference(one: Outcome, other: Outcome) -> tuple[float, float, str]:
    """The largest difference of a logged value, of a weight as a share of the largest move, and where the larger is."""
    worst, place = (0.0, "") if one.sampled == other.sampled else (math.inf, "sampled tokens")
    for name in one.logged.keys() | other.logged.keys():
        own, its = one.logged.get(name, []), other.logged.get(name, [])
        apart = math.inf if len(own) != len(its) else max(map(_apart, own, its))
        if apart > worst:
            worst, place = apart, name
    size = max(float(move.abs().max()) for move in one.moved.values())
    weights = {name: float((one.moved[name] - other.moved[name]).abs().max()) / size for name in one.moved}
    widest = max(weights, key=weights.__getitem__)
    return worst, weights[widest], widest if weights[widest] > worst else place


def _apart(one: float, other: float) -> float:
    if math.isnan(one) and math.isnan(other):
        return 0.0
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


def compare(config: Path, items: int = 3, prompts: int = 8) -> tuple[bool, str]:
    """Whether all three runs of a config agree, and its row of the table."""
    whole = train(config, items, prompts, WHOLE)
    small, two = train(config, items, prompts, SMALL), train_on_two(config, items, prompts, SMALL)
    if not whole.micro_batches == whole.updates < small.micro_batches:
        raise RuntimeError(f"{config}: {whole.micro_batches} and {small.micro_batches} micro-batches compare nothing")
    apart = [difference(whole, other) for other in (small, two)]
    same = all(max(logged, weights) <= TOLERANCE for logged, weights, _ in apart)
    cells = "".join(f"{logged:>11.1e}{weights:>11.1e}" for logged, weights, _ in apart)
    said = "same" if same else "DIFFERENT: " + ", ".join(sorted({place for *_, place in apart if place}))
    loss, count = whole.logged["train/loss"][-1], small.micro_batches / small.updates
    return same, f"{config.stem:<30}{loss:>10.5f}{count:>8.1f}{cells}  {said}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG")
    parser.add_argument("--items", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=8)
    options = parser.parse_args()
    named = [find(name) or parser.error(f"{name}: {missing(name)}") for name in options.configs]
    configs = named or sorted(CONFIGS.glob("*.yaml"))
    quiet()
    torch.set_num_threads(1)  # before the first operation: a thread pool does not survive a fork
    print(f"{'':<30}{'':>10}{'micro-':>7}{'several micro-batches':>22}{'two processes':>22}")
    print(f"{'config':<30}{'loss':>10}{'batches':>8}{'logged':>10}{'weights':>11}{'logged':>11}{'weights':>11}")
    verdicts = []
    for config in configs:
        same, row = compare(config, options.items, options.prompts)
        verdicts.append(same)
        print(row, flush=True)
    print(f"{sum(verdicts)} of {len(verdicts)} are the same beyond float rounding ({TOLERANCE:.0e})")
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main())
