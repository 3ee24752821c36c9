"""Kills a run again and again, resumes it, and compares it bit for bit with one that was left alone.

    python tools/kill_and_resume.py [RUN ...] [--kills 10] [--seed 0] [--updates 40] [--every 6]

One kill in three is a SIGKILL at any moment, one a SIGKILL while a checkpoint is being written, and one a double Ctrl-C.
Compared are every logged value of training and validation (times aside), the samples, and all that a checkpoint holds
between two items: weights, random numbers, the states of optimizer, schedule, reference, credit and replay buffer. The
runs are on the built-in task:

    pra       soft-label PRA with dropout, an EMA reference, a schedule and validation within epochs, from Python
    ppo       PPO with a critic by its command line; all others too
    adaptive  and a coefficient of the KL that steers itself
    ema       and a reference that follows the policy
    replay    and a buffer of earlier iterations
    all       all three at once
    NAME      a config: its file, or its name in configs/

All that have a word of their own without RUN. Exit code 0 if nothing differs.
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
from lit_rlhf.cli import main as main_of_package
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reference import EMA
from lit_rlhf.config.places import find, missing
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.losses.pra import PRA

CONFIGS = Path(__file__).parents[1] / "configs"
KL = "--model.credit.0.tau"
ADAPTIVE = (f"{KL}=lit_rlhf.credit.kl.AdaptiveKL", f"{KL}.initial=0.1", f"{KL}.target=0.05", f"{KL}.horizon=100")
EMA_REFERENCE = ("--model.reference=lit_rlhf.components.reference.EMA", "--model.reference.decay=0.9", "--model.reference.every=3")
REPLAY = ("--model.replay=lit_rlhf.algorithms.replay.Replay", "--model.replay.capacity=20", "--model.replay.reuse=0.5")
VARIANTS = {"ppo": (), "adaptive": ADAPTIVE, "ema": EMA_REFERENCE, "replay": REPLAY, "all": (*ADAPTIVE, *EMA_REFERENCE, *REPLAY)}
"""What is added to the command line of PPO."""
PROCESSES = multiprocessing.get_context("fork")
SLOWNESS = 0.1
"""Seconds that a checkpoint takes longer to write, for a kill to hit it."""
KINDS = ("killed at", "killed while saving after", "interrupted at")
VOLATILE = ("callbacks", "loops", "pytorch-lightning_version")
"""Of a checkpoint: what holds times and places of files."""


class WithDropout(Algorithm):
    """Draws random numbers in every update."""

    def configure_model(self) -> None:
        super().configure_model()
        for part in self.actor.modules():
            if hasattr(part, "attention_dropout"):
                part.attention_dropout = 0.1


def train(name: str, run_dir: Path, updates: int, every: int, step: Synchronized, saving: Synchronized) -> None:
    """The run, or the rest of it; `step` and `saving` tell the parent where it stands."""
    quiet()
    report_progress(step, saving)
    if name == "pra":
        return train_in_python(run_dir, updates, every)
    os.chdir(run_dir.parents[1])
    sys.exit(main_of_package(command_line(name, run_dir, updates, every)))


def command_line(name: str, run_dir: Path, updates: int, every: int) -> list[str]:
    """What is typed after `python -m lit_rlhf`."""
    config = CONFIGS / "ppo.yaml" if name in VARIANTS else find(name)
    trainer = {
        "max_steps": updates, "val_check_interval": 3, "log_every_n_steps": 4, "accelerator": "cpu", "devices": 1,
        "enable_progress_bar": "false", "callbacks": "lit_rlhf.callbacks.RunCheckpoint",
        "callbacks.dirpath": run_dir / "checkpoints", "callbacks.monitor": "null", "callbacks.every_n_updates": every,
    }
    data = {"batch_size": 8, "micro_batch_tokens": 128, "size": 8 * 12, "val_size": 12}
    return [
        "fit", f"--config={config}", *(f"--data.{key}={value}" for key, value in data.items()),
        *(f"--trainer.{key}={value}" for key, value in trainer.items()), *VARIANTS.get(name, ()),
        f"--run={run_dir.name}", "--ckpt_path=last",
    ]


def train_in_python(run_dir: Path, updates: int, every: int) -> None:
    """PRA from its parts."""
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
    sys.stdout = sys.stderr = open(os.devnull, "w")


def report_progress(step: Synchronized, saving: Synchronized) -> None:
    """Makes updates and checkpoints visible to the parent, and checkpoints slow."""
    update, save = Algorithm.update, torch.save

    def counted(self: Algorithm, *arguments: object) -> object:
        step.value = self.trainer.global_step
        return update(self, *arguments)

    def slow(*args: object, **kwargs: object) -> None:
        saving.value += 1
        time.sleep(SLOWNESS / 2)
        save(*args, **kwargs)
        time.sleep(SLOWNESS / 2)

    Algorithm.update, checkpoint_io.torch.save = counted, slow


def start(
    name: str, run_dir: Path, updates: int, every: int
) -> tuple[multiprocessing.Process, Synchronized, Synchronized]:
    """A child that trains."""
    step, saving = PROCESSES.Value("i", -1), PROCESSES.Value("i", 0)
    child = PROCESSES.Process(target=train, args=(name, run_dir, updates, every, step, saving))
    child.start()
    return child, step, saving


def kill_once(
    name: str, run_dir: Path, updates: int, every: int, draw: random.Random, share: tuple[float, float], kind: str
) -> str:
    """Starts the run and ends it at a moment drawn from this share of it, or in the first save from then on."""
    child, step, saving = start(name, run_dir, updates, every)
    _wait(child, step, 0)
    first, target = step.value, int(draw.uniform(*share) * updates)
    _wait(child, step, target)
    if kind == KINDS[1]:
        _wait(child, saving, saving.value + 1)
    time.sleep(draw.uniform(0, SLOWNESS))
    if not child.is_alive():
        return f"started at update {first} and ended before the kill, with exit code {child.exitcode}"
    reached = step.value
    os.kill(child.pid, signal.SIGINT if kind == KINDS[2] else signal.SIGKILL)
    if kind == KINDS[2]:
        time.sleep(draw.uniform(0, SLOWNESS / 2))
        if child.is_alive():
            os.kill(child.pid, signal.SIGINT)
    child.join()
    return f"started at update {first}, {kind} update {reached}"


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
    for key in (a.keys() | b.keys()) - set(VOLATILE):
        found += [f"{key}{place}" for place in _apart(a.get(key), b.get(key))]
    samples = [folder / "samples.jsonl" for folder in (whole, killed)]
    return found + ([] if samples[0].read_bytes() == samples[1].read_bytes() else ["samples.jsonl"])


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


def compare(name: str, kills: int, seed: int, updates: int, every: int) -> list[str]:
    """What differs between a run that was left alone and one that was killed so many times."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "runs", "whole"), Path(folder, "runs", "killed")
        whole.parent.mkdir()
        child, *_ = start(name, whole, updates, every)
        child.join()
        if child.exitcode:
            return [f"the run that was left alone ended with exit code {child.exitcode}"]
        for number in range(kills):
            share = number / kills, (number + 1) / kills
            print(kill_once(name, killed, updates, every, draw, share, KINDS[number % len(KINDS)]), flush=True)
        child, *_ = start(name, killed, updates, every)
        child.join()
        failed = [f"the last run ended with exit code {child.exitcode}"]
        return failed if child.exitcode else differences(whole, killed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ("pra", *VARIANTS)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"{', '.join(known)}, or a config")
    for name, default in (("kills", 10), ("seed", 0), ("updates", 40), ("every", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    for name in options.runs:
        if name not in known and find(name) is None:
            parser.error(f"{name}: {missing(name)}")
    torch.set_num_threads(1)  # before the first operation: a thread pool does not survive a fork
    failed = False
    for name in options.runs or known:
        found = compare(name, options.kills, options.seed, options.updates, options.every)
        same = f"{name}: after {options.kills} kills the same values, weights and states, bit for bit"
        print("\n".join(f"{name}: {line}" for line in found) or same, flush=True)
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
