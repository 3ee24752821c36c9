"""The experiments of the theory's page: each picture, and the table of its numbers, by one command.

    python tools/udrra.py families|seeds|rates|labels|frontier [--out DIR]

    families  the four recipes of configs/recipes/udrra, with KL(pi || pi^tau) on the way, and the gauge beside it
    seeds     RLOO, RDA, RA and PRA on the policy's own samples by plain gradient descent at matched steps, three seeds each
    frontier  mean reward against KL(pi || u) of DPO, PRA, RDA, RA and PPO at several tau, and the laws pi^tau
    rates     what tau, labels and pairs do to the pace of gradient descent on exact losses
    labels    DPO on streamed labels, on one fixed label per pair, and on pairs that do not connect the responses

families, seeds and frontier train the tiny transformer on the built-in task, some minutes each; every number is a sum over all 4,369
responses to every prompt but the gauge's. Pictures are DIR/<name>.png and the numbers DIR/<name>.json; DIR is
lit_rlhf/theory/pictures without it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch import Callback

from lit_rlhf.callbacks.quickstart import ExactSummary, exact, target_tau
from lit_rlhf.cli import build
from lit_rlhf.data import grammar

sys.path.insert(0, str(Path(__file__).parent))
import udrra_tables as tables  # noqa: E402

ROOT = Path(__file__).parents[1]
RECIPES, OUT = ROOT / "configs" / "recipes" / "udrra", ROOT / "lit_rlhf" / "theory" / "pictures"
FAMILIES = ("ra", "rda", "pra", "bda")
EVERY = 50
"""Updates between two exact measurements."""
TAUS = (0.25, 0.5, 1.0)
FRONTIER = {
    "DPO": ("pra", "--data.labels=sampled"), "PRA": ("pra",), "RDA": ("rda",), "RA": ("ra",), "PPO": ("ppo",),
}
"""Of the frontier: a recipe and what is different."""
GAUGE = "udrra/kl_to_target"
STEP, SEEDS, TAU, PACED = 0.1, (0, 1, 2), 0.5, 100
"""Of the matched steps: that of RLOO, the seeds, the temperature, the updates."""
MATCHED = {
    "BDA (RLOO)": ("rloo", 1.0, (f"--model.credit.0.tau={TAU}",)),
    "RDA": ("rda_online", 1 / (2 * TAU), (f"--model.loss.tau={TAU}",)),
    "RA": ("ra_online", 1 / TAU, (f"--model.loss.tau={TAU}",)),
    "PRA": ("online_dpo", 2 / TAU, (f"--model.loss.tau={TAU}", "--model.pairs.labels=soft")),
}
"""A config on the policy's own samples, the factor of its step by which first orders agree, and what is different."""


@dataclass
class Course:
    """What a run went through."""

    updates: list[int] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    """KL(pi || pi^tau) in nats after so many updates, exactly."""
    gauge: list[float] = field(default_factory=list)
    """What the samples of each iteration say of it before the update; empty off-line."""
    reward: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Mean reward before, after, and of the target."""
    seconds: float = 0.0
    """Of training, without the measurements."""


class Watch(Callback):
    """Measures a run exactly at every `every`-th update, and keeps its gauge."""

    def __init__(self, every: int) -> None:
        self.every, self.course, self.summary = every, Course(), ExactSummary()
        self._first = self._last = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first = self._measured(pl_module, 0).reward
        self._last = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.course.seconds += time.perf_counter() - self._last
        found = pl_module.recorder.flush()
        self.course.gauge += [found[GAUGE]] if GAUGE in found else []
        if trainer.global_step % self.every == 0:
            seen = self._measured(pl_module, trainer.global_step)
            self.course.reward = (self._first, seen.reward, seen.optimum)
        self._last = time.perf_counter()

    def _measured(self, algorithm: LightningModule, update: int):
        seen = self.summary.measure(algorithm)
        self.course.updates.append(update)
        self.course.kl.append(seen.kl_to_target)
        return seen


def trained(recipe: Path, *changes: str, steps: int | None = None, callback: Callback | None = None) -> LightningModule:
    """The algorithm of a recipe after its updates, on one CPU process."""
    seed_everything(0, verbose=False)
    algorithm, data = build(["--config", str(recipe), *changes])
    steps = steps or yaml.safe_load(recipe.read_text())["trainer"]["max_steps"]
    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(
            accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, limit_val_batches=0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, callbacks=[callback] if callback else [],
        ).fit(algorithm, data)
    return algorithm


# ---- families


def families(names: Sequence[str] = FAMILIES, steps: int | None = None, every: int = EVERY) -> dict[str, Any]:
    """Each recipe's course."""
    courses = {}
    for name in names:
        watch = Watch(every)
        trained(RECIPES / f"{name}.yaml", steps=steps, callback=watch)
        courses[name.upper()] = asdict(watch.course)
        print(_row(name.upper(), courses[name.upper()]), flush=True)
    return {"courses": courses}


def _row(name: str, course: dict[str, Any]) -> str:
    first, last, best = course["reward"]
    return (
        f"| {name} | {course['updates'][-1]} | {course['kl'][0]:.3f} | {course['kl'][-1]:.5f} "
        f"| {first:.3f} | {last:.3f} | {best:.3f} | {course['seconds']:.0f} s |"
    )


def draw_families(figure: Any, numbers: dict[str, Any]) -> None:
    """KL to the target against updates; the gauge of the run that samples as dots."""
    axes = figure.subplots()
    for (name, course), colour in zip(numbers["courses"].items(), tables.COLOURS, strict=False):
        axes.semilogy(course["updates"], course["kl"], color=colour, label=f"{name}, exact")
        if course["gauge"]:
            items = range(len(course["gauge"]))
            axes.semilogy(items, course["gauge"], ".", ms=3, alpha=0.5, color=colour, label=f"{name}, gauge")
    axes.set(xlabel="updates", ylabel="KL(pi || pi^tau), nats", title="Four families, one target: the built-in task")
    axes.legend()


# ---- seeds


def seeds(names: Sequence[str] = tuple(MATCHED), chosen: Sequence[int] = SEEDS, steps: int = PACED, every: int = 10) -> dict[str, Any]:
    """The courses of every loss and seed; equal seeds draw equal first samples."""
    courses: dict[str, Any] = {name: [] for name in names}
    for name in names:
        config, factor, changes = MATCHED[name]
        for seed in chosen:
            watch = Watch(every)
            trained(
                ROOT / "configs" / f"{config}.yaml", *changes, f"--model.sampler.seed={seed}", f"--data.seed={seed}",
                "--model.group_size=8", "--data.batch_size=64", "--model.optimizer=torch.optim.SGD",
                f"--model.optimizer.lr={STEP * factor}", "--model.max_grad_norm=null", steps=steps, callback=watch,
            )
            courses[name].append(asdict(watch.course))
            print(f"| {name} | {seed} | {courses[name][-1]['kl'][0]:.3f} | {courses[name][-1]['kl'][-1]:.4f} |", flush=True)
    return {"courses": courses}


def draw_seeds(figure: Any, numbers: dict[str, Any]) -> None:
    """KL to the target against updates, a line for each seed."""
    axes = figure.subplots()
    styles = zip(numbers["courses"].items(), tables.COLOURS, ("-", "--", "-", "-"), (3.0, 1.2, 1.2, 1.2), strict=False)
    for (name, courses), colour, line, width in styles:
        for place, course in enumerate(courses):
            label = None if place else name
            axes.semilogy(course["updates"], course["kl"], line, color=colour, lw=width, alpha=0.6, label=label)
    axes.set(xlabel="updates", ylabel="KL(pi || pi^tau), nats", title="Matched steps of plain gradient descent, three seeds")
    axes.legend()


# ---- frontier


class _Laws(ExactSummary):
    """Mean reward and KL(pi || u)."""

    @torch.no_grad()
    def place(self, algorithm: LightningModule) -> tuple[float, float]:
        policy = self._every_logp(lambda sequences: algorithm.actor.token_logps(sequences).values, algorithm.device)
        base, reward = self._base_measure(algorithm, policy), _rewards()
        return exact(policy, base, reward, 1.0).reward, exact(policy, base, torch.zeros_like(reward), 1.0).kl_to_target


def _rewards() -> torch.Tensor:
    return torch.stack([torch.from_numpy(grammar.rewards(prompt)) for prompt in grammar.PROMPTS])


def frontier(
    names: Sequence[str] = tuple(FRONTIER), steps: int | None = None, taus: Sequence[float] = TAUS
) -> dict[str, Any]:
    """(reward, KL to the reference) of every algorithm at every tau, and of the targets."""
    points: dict[str, Any] = {name: [] for name in names}
    for name in names:
        recipe, *changes = FRONTIER[name]
        for tau in taus:
            algorithm = trained(RECIPES / f"{recipe}.yaml", f"--vars.tau={tau}", *changes, steps=steps)
            reward, distance = _Laws(tau).place(algorithm)
            points[name].append({"tau": tau, "reward": reward, "kl": distance})
            print(f"| {name} | {tau:g} | {reward:.3f} | {distance:.3f} |", flush=True)
    return {"points": points, "targets": targets()}


def targets() -> list[dict[str, float]]:
    """pi^tau from tau = 0.2 to 8: no law has a larger reward at its KL."""
    found, reward = [], _rewards()
    base = torch.stack([torch.from_numpy(grammar.log_law(prompt)) for prompt in grammar.PROMPTS])
    for tau in torch.logspace(-0.7, 0.9, 33, dtype=torch.float64).tolist():
        law = (base + reward / tau).log_softmax(-1)
        nats = float((law.exp() * (law - base)).sum(-1).mean())
        found.append({"tau": tau, "reward": float((law.exp() * reward).sum(-1).mean()), "kl": nats})
    return found


def draw_frontier(figure: Any, numbers: dict[str, Any]) -> None:
    """Reward against KL, with the curve of the targets."""
    axes = figure.subplots()
    curve = numbers["targets"]
    axes.plot([at["kl"] for at in curve], [at["reward"] for at in curve], color="#b0b0b0", label="pi^tau")
    for (name, points), colour, marker in zip(numbers["points"].items(), tables.COLOURS, "osv^D", strict=False):
        places = [at["kl"] for at in points], [at["reward"] for at in points]
        axes.plot(*places, marker, color=colour, label=name, alpha=0.7)
    axes.set(xlabel="KL(pi || u), nats", ylabel="mean reward", title="Reward against distance")
    axes.legend()


# ---- the command

EXPERIMENTS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[Any, dict[str, Any]], None]]] = {
    "families": (families, draw_families), "seeds": (seeds, draw_seeds), "rates": (tables.rates, tables.draw_rates),
    "labels": (tables.labels, tables.draw_labels), "frontier": (frontier, draw_frontier),
}


def write(name: str, numbers: dict[str, Any], folder: Path) -> None:
    """The picture, and the numbers with what they were made by."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4) if name in ("rates", "labels") else (7, 4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    EXPERIMENTS[name][1](figure, numbers)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png")
    made = {
        "command": f"python tools/udrra.py {name}", "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
        "lightning": lightning.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    (folder / f"{name}.json").write_text(json.dumps({"made": made} | tables.rounded(numbers)) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    write(options.experiment, EXPERIMENTS[options.experiment][0](), options.out)
    print(f"{options.out / options.experiment}.png and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
