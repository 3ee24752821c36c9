"""k-fold cross-validation of recipes over preference data: held-out accuracy with its interval, against chance and length.

    python tools/crossval.py CONFIG [CONFIG ...] [--folds 5] [--only FOLD ...] [--out FILE] [--key=value ...]

In every fold the configs are run one after the other by `python -m lit_rlhf fit` with `data.split` = 1 / folds, and a `vars`
entry that names the run of an earlier config is pointed at its run of the same fold: hh_harmless/sft.yaml
hh_harmless/dpo.yaml trains an SFT model for every fold, whose held-out pairs neither has seen. `predict` then gives the log-probs
or scores of the held-out pairs. A run that is there already is continued from its last checkpoint, so the same command goes on
where it was interrupted. Overrides go to every config, --judged=OVERRIDE to the pairs that are judged alone:

    python tools/crossval.py configs/recipes/alpaca_scored/pra.yaml --judged=--data.source_clip=null

The preferred response is taken to be the one with the higher implicit reward (log pi - log u, log pi without a reference) or score; equal ones
count one half. The length-only baseline prefers the longer or the shorter response, whichever is right more often on the
training pairs of the fold. Intervals are 95%: Wilson's where no prompt has two pairs, and a bootstrap over prompts otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import norm

UNCUT = 1 << 30
"""Tokens: more than any completion has."""


@dataclass(frozen=True)
class Judged:
    """A held-out pair: who won, by the model and by length, 1, 0 or 1/2 for a tie."""

    prompt: str
    model: float
    length: float


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        return f"{100 * self.value:.1f}% [{100 * self.low:.1f}, {100 * self.high:.1f}]"


# ---- statistics


def wilson(share: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a binomial share (https://doi.org/10.1080/01621459.1927.10502953)."""
    z = norm.ppf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, float(middle - half), float(middle + half))


def bootstrap(values: Sequence[float], prompts: Sequence[str], draws: int = 2000, level: float = 0.95) -> Interval:
    """Mean over pairs; the interval is of draws of prompts, with all their pairs (seeded)."""
    _, of = np.unique(np.asarray(prompts), return_inverse=True)
    sums, counts = np.bincount(of, weights=np.asarray(values, dtype=float)), np.bincount(of)
    drawn = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def interval(values: Sequence[float], prompts: Sequence[str]) -> Interval:
    """Wilson's where every prompt has one pair, a bootstrap over prompts otherwise."""
    if len(set(prompts)) == len(prompts):
        return wilson(float(np.mean(values)), len(values))
    return bootstrap(values, prompts)


def summary(folds: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    """Accuracy over all folds, of the model, of length alone and of their difference, and its spread over folds."""
    pairs = [pair for fold in folds for pair in fold]
    prompts = [pair.prompt for pair in pairs]
    by_fold = [float(np.mean([pair.model for pair in fold])) for fold in folds]
    return {
        "pairs": len(pairs),
        "prompts": len(set(prompts)),
        "accuracy": asdict(interval([pair.model for pair in pairs], prompts)),
        "length_only": asdict(interval([pair.length for pair in pairs], prompts)),
        "above_length_only": asdict(bootstrap([pair.model - pair.length for pair in pairs], prompts)),
        "folds": by_fold,
        "spread": statistics.stdev(by_fold) if len(by_fold) > 1 else None,
    }


# ---- pairs


def judged(groups: Iterable[Any], uncut: Iterable[Any], rewards: Mapping[tuple[str, str], float], tokenizer: Any,
           longer: bool) -> Iterator[Judged]:
    """The pairs of these groups that have a preferred end.

    Args:
        groups: held-out groups, as the model saw them.
        uncut: the same rows at full length.
        rewards: of a row's completion, by its decoded text.
        longer: whether length alone prefers the longer one.
    """
    lengths = {group.row: [len(ids) for ids in group.completions] for group in uncut}
    for group in groups:
        reward = [rewards[group.row, tokenizer.decode(ids.tolist())] for ids in group.completions]
        for better, worse in preferred(group):
            by_length = np.sign(lengths[group.row][better] - lengths[group.row][worse]) * (1 if longer else -1)
            yield Judged(group.row, float(1 + np.sign(reward[better] - reward[worse])) / 2, float(1 + by_length) / 2)


def preferred(group: Any) -> Iterator[tuple[int, int]]:
    """The completions of each pair, the preferred one first; pairs with probability 1/2, in float32 as batches have it, have none."""
    for pair in group.pairs:
        probability = np.float32(pair.probability)
        if probability != 0.5:
            yield (pair.chosen, pair.rejected) if probability > 0.5 else (pair.rejected, pair.chosen)


def longer_wins(groups: Iterable[Any]) -> bool:
    """Whether the preferred end is the longer one more often than the shorter one."""
    return sum(np.sign(len(group.completions[better]) - len(group.completions[worse]))
               for group in groups for better, worse in preferred(group)) >= 0


def rewards(file: Path, reduce: str = "sum") -> dict[tuple[str, str], float]:
    """The score, or log pi - log u (divided by the length with `reduce="mean"`), of every line of predictions.jsonl."""
    found = {}
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        value = line["score"] if "score" in line else line["log_prob"] - line.get("reference_log_prob", 0.0)
        found[line["row"], line["completion_text"]] = value / line["length"] if reduce == "mean" else value
    return found


@dataclass(frozen=True)
class _Pairs:
    """Asks a data module for pairs, whatever the loss of the config reads."""

    tokenizer: Any
    needs: frozenset[str] = frozenset({"chosen"})


def measure(arguments: Sequence[str], predictions: Path) -> tuple[Judged, ...]:
    """The held-out pairs of one fold.

    Args:
        arguments: of the stage, and what the pairs that are judged differ in.
        predictions: the file that `predict` wrote.
    """
    from lit_rlhf.cli import build

    algorithm, data = build(arguments)
    _, whole = build([*arguments, f"--data.max_length={UNCUT}", f"--data.micro_batch_tokens={UNCUT}"])
    for module in (data, whole):
        module.attach(_Pairs(algorithm.tokenizer))
        module.setup("fit")
    longer = longer_wins(whole.groups("train"))
    found = rewards(predictions, getattr(algorithm.loss, "reduce", "sum"))
    return tuple(judged(data.groups("val"), whole.groups("val"), found, algorithm.tokenizer, longer))


# ---- runs


@dataclass(frozen=True)
class Stage:
    """One config in one fold."""

    config: Path
    run: str
    arguments: tuple[str, ...]


def stages(configs: Sequence[Path], fold: int, folds: int, overrides: Sequence[str]) -> tuple[Stage, ...]:
    """What is run in a fold, in order.

    Raises:
        ValueError: a config names no run.
    """
    found: list[Stage] = []
    runs: dict[str, str] = {}
    for config in configs:
        tree = OmegaConf.to_container(OmegaConf.load(config), resolve=False)
        if "run" not in tree:
            raise ValueError(f"{config}: no run is named; write `run: NAME` into it")
        run = f"{tree['run']}-fold{fold}"
        chained = [f"--vars.{name}={runs[value]}" for name, value in tree.get("vars", {}).items() if value in runs]
        given = [f"--run={run}", f"--data.split={1 / folds:g}", f"--data.fold={fold}", *chained, *overrides]
        found.append(Stage(config, run, ("--config", str(config), *given)))
        runs[f"runs/{tree['run']}"] = f"runs/{run}"
    return tuple(found)


def command(name: str, arguments: Sequence[str]) -> None:
    """Runs `python -m lit_rlhf`.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, "-m", "lit_rlhf", name, *arguments], check=True)


def run(stage: Stage, predict: bool) -> Path:
    """Trains a stage unless it is done, and predicts; the file of predictions."""
    folder = Path("runs") / stage.run
    done = folder / "crossval.done"
    if not done.exists():
        command("fit", [*stage.arguments, "--ckpt_path", "last"])
        done.touch()
    file = folder / "predictions.jsonl"
    if predict and not file.exists():
        command("predict", [*stage.arguments, "--ckpt_path", "last"])
    return file


def write(out: Path, found: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_name(f".{out.name}.tmp")
    made.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    os.replace(made, out)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per recipe."""
    rows = ["| run | pairs | held-out accuracy | length only | above length only | spread over folds |", "|---|---|---|---|---|---|"]
    for name, one in found.items():
        cells = [Interval(**one[key]).text() for key in ("accuracy", "length_only", "above_length_only")]
        spread = "" if one["spread"] is None else f"{100 * one['spread']:.1f}"
        rows.append(f"| {name} | {one['pairs']} | {' | '.join(cells)} | {spread} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python tools/crossval.py", description=__doc__.partition("\n")[0])
    parser.add_argument("configs", metavar="CONFIG", type=Path, nargs="+", help="in the order in which they are run")
    parser.add_argument("--folds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--only", metavar="FOLD", type=int, nargs="+", help="some of the folds, counted from 0")
    parser.add_argument("--measure", metavar="CONFIG", type=Path, nargs="+", help="the configs to measure (default: the last)")
    parser.add_argument("--judged", metavar="OVERRIDE", action="append", default=[], help="for the held-out pairs alone")
    parser.add_argument("--out", type=Path, default=Path("runs/crossval.json"), help="(default: %(default)s)")
    given, overrides = parser.parse_known_args(arguments)
    measured: dict[str, list[tuple[Judged, ...]]] = {}
    for fold in given.only or range(given.folds):
        for stage in stages(given.configs, fold, given.folds, overrides):
            wanted = stage.config in (given.measure or given.configs[-1:])
            file = run(stage, predict=wanted)
            if wanted:
                measured.setdefault(stage.run.rpartition("-fold")[0], []).append(measure((*stage.arguments, *given.judged), file))
        found = {name: summary(folds) for name, folds in measured.items()}
        write(given.out, found)
    print(table(found))


if __name__ == "__main__":
    main()
