"""Kills a run with SIGKILL again and again, resumes it, and compares it bit for bit with one that was left alone.

    python tools/kill_and_resume.py [--kills 10] [--seed 0] [--updates 40] [--every 6]

Half of the kills come while a checkpoint is being written. Compared are every logged value of training and validation
(times aside), the samples, the weights, and the states of optimizer, schedule and reference. The run is soft-label PRA
with dropout, an EMA reference, a schedule and validation within epochs, on the built-in task. Exit code 0 if nothing
differs.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rlhf import assets
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.schedules import Cosine
from lit_rlhf.callbacks import MetricLogger, RunCheckpoint, RunSummary, SampleTable, checkpoint_io
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reference import EMA
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.losses.pra import PRA

PROCESSES = multiprocessing.get_context("fork")
SLOWNESS = 0.1
"""Seconds that a checkpoint takes longer to write, for a kill to hit it."""


class WithDropout(Algorithm):
    """Draws random numbers in every update."""

    def configure_model(self) -> None:
        super().configure_model()
        for part in self.actor.modules():
            if hasattr(part, "attention_dropout"):
                part.attention_dropout = 0.1


def train(run_dir: Path, updates: int, every: int, step: Synchronized, saving: Synchronized) -> None:
    """The run, or the rest of it; `step` and `saving` tell the parent where it stands."""
    quiet()
    report_progress(step, saving)
    seed_everything(0, verbose=False)
    actor = Actor(LanguageModel(str(Path(assets.__path__[0]) / "reviews")))
    algorithm = WithDropout(
        actor, PRA(tau=0.5), EMA(decay=0.9, every=3), schedule=Cosine(0.1),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3),
    )
    checkpoint = RunCheckpoint(run_dir / "checkpoints", every_n_updates=every)
    trainer = Trainer(
        max_steps=updates, max_epochs=-1, val_check_interval=5, num_sanity_val_steps=1, log_every_n_steps=4,
        accelerator="cpu", devices=1, use_distributed_sampler=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[MetricLogger(), SampleTable(run_dir), RunSummary(run_dir), checkpoint],
        logger=TensorBoardLogger(run_dir.parent, name=run_dir.name, version=""),
    )
    last = run_dir / "checkpoints" / "last.ckpt"
    data = Reviews(batch_size=8, micro_batch_tokens=128, size=8 * 12, val_size=12)
    trainer.fit(algorithm, data, ckpt_path=last if last.exists() else None)


def quiet() -> None:
    """The children's output is not what this command is about."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sys.stdout = open(os.devnull, "w")


def report_progress(step: Synchronized, saving: Synchronized) -> None:
    """Makes updates and checkpoints visible to the parent, and checkpoints slow."""
    update, save = Algorithm.update, torch.save

    def counted(self: Algorithm, item: object) -> None:
        step.value = self.trainer.global_step
        update(self, item)

    def slow(*args: object, **kwargs: object) -> None:
        saving.value += 1
        time.sleep(SLOWNESS / 2)
        save(*args, **kwargs)
        time.sleep(SLOWNESS / 2)

    Algorithm.update, checkpoint_io.torch.save = counted, slow


def start(run_dir: Path, updates: int, every: int) -> tuple[multiprocessing.Process, Synchronized, Synchronized]:
    """A child that trains."""
    step, saving = PROCESSES.Value("i", -1), PROCESSES.Value("i", 0)
    child = PROCESSES.Process(target=train, args=(run_dir, updates, every, step, saving))
    child.start()
    return child, step, saving


def kill_once(
    run_dir: Path, updates: int, every: int, draw: random.Random, share: tuple[float, float], during_save: bool
) -> str:
    """Starts the run and kills it at a moment drawn from this share of it, or in the first save from then on."""
    child, step, saving = start(run_dir, updates, every)
    _wait(child, step, 0)
    first, target = step.value, int(draw.uniform(*share) * updates)
    _wait(child, step, target)
    if during_save:
        _wait(child, saving, saving.value + 1)
    time.sleep(draw.uniform(0, SLOWNESS if during_save else 0.03))
    if not child.is_alive():
        return f"started at update {first} and ended before the kill"
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    return f"started at update {first}, killed {'while saving after' if during_save else 'at'} update {step.value}"


def _wait(child: multiprocessing.Process, counter: Synchronized, least: int) -> None:
    while counter.value < least and child.is_alive():
        time.sleep(0.001)


def logged(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every scalar but times."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    names = [name for name in events.Tags()["scalars"] if not name.startswith(("perf/", "hp_metric"))]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def differences(whole: Path, killed: Path) -> list[str]:
    """What is not the same, bit for bit."""
    a, b = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, killed))
    expected, values = logged(whole), logged(killed)
    apart = [name for name in expected if expected[name] != values.get(name)]
    found = [f"logged {name}: {expected[name]} against {values.get(name)}" for name in apart]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "algorithm"):
        found += [f"{key}{place}" for place in _apart(a[key], b[key])]
    samples = [(folder / "samples.jsonl").read_bytes() for folder in (whole, killed)]
    return found + ([] if samples[0] == samples[1] else ["samples.jsonl"])


def _apart(a: object, b: object, place: str = "") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [place]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [place]
        return [p for key in a for p in _apart(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, list | tuple):
        return [p for index, (x, y) in enumerate(zip(a, b, strict=True)) for p in _apart(x, y, f"{place}[{index}]")]
    return [] if a == b else [place]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 10), ("seed", 0), ("updates", 40), ("every", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)  # before the first operation: a thread pool does not survive a fork
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        child, *_ = start(whole, options.updates, options.every)
        child.join()
        if child.exitcode:
            return child.exitcode
        for number in range(options.kills):
            share = number / options.kills, (number + 1) / options.kills
            said = kill_once(killed, options.updates, options.every, draw, share, during_save=number % 2 == 1)
            print(said, flush=True)
        child, *_ = start(killed, options.updates, options.every)
        child.join()
        failed = [f"the last run ended with exit code {child.exitcode}"]
        found = failed if child.exitcode else differences(whole, killed)
    same = f"after {options.kills} kills: the same values, weights and optimizer state, bit for bit"
    print("\n".join(found) or same)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
