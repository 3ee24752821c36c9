"""A rollout by our samplers and by `generate`, in fresh processes taken in turn: `python tools/bench/rollout.py`.

    python tools/bench/rollout.py [--prompts 4] [--group_size 8] [--prompt_tokens 256] [--new_tokens 64]
                                  [--sides native hf generate] [--rollouts 2] [--repeats 3] [--threads 1]
                                  [--out runs/bench/rollout.json]

Every process samples from the same weights. The command ends with an error where one made fewer tokens than another,
or where mean log-probs of what they drew differ by more than five standard errors, and prints a table otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import offline
from measured import median_and_spread
from rollout_side import SIDES, Rollouts, Task
from workload import MODEL, VOCABULARY, write_start

HERE = Path(__file__).parent
SPREAD = 0.02 * MODEL["hidden_size"] ** 0.5
"""Standard deviation of a logit under the start weights (0.02 each, of a state of unit variance), in nats."""


def measure(folder: Path, side: str, out: Path, threads: int) -> Rollouts:
    """One fresh process.

    Raises:
        SystemExit: it failed; with the end of what it wrote.
    """
    environment = os.environ | offline.ENVIRONMENT | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, str(HERE / "rollout_side.py"), str(folder), str(out), side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return Rollouts.load(out)


def measure_all(task: Task, sides: Sequence[str], repeats: int, threads: int) -> dict[str, list[Rollouts]]:
    """The runs of every side, taken in turn so that a slow minute of the machine falls on all."""
    runs: dict[str, list[Rollouts]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        task.save(folder)
        write_start(folder)
        for repeat in range(repeats):
            for side in sides:
                runs[side].append(measure(folder, side, folder / f"{side}-{repeat}.json", threads))
                print(f"{side}: {runs[side][-1].seconds:.2f} s", file=sys.stderr)
    return runs


def table(runs: dict[str, list[Rollouts]]) -> str:
    """A Markdown table: the median over processes and in brackets the range; ratios are of processes of one turn."""
    lines = [
        "| side | tokens a second | tokens a second of processor time | memory above the weights, MiB "
        "| processor time, times the first |",
        "|---|---|---|---|---|",
    ]
    first = next(iter(runs.values()))
    for side, own in runs.items():
        speeds = _shown([run.tokens / run.seconds for run in own], 0)
        processor = _shown([run.tokens / run.processor_seconds for run in own], 0)
        memory, _, _ = median_and_spread([run.peak_mib - run.loaded_mib for run in own])
        ratios = [one.processor_seconds / other.processor_seconds for one, other in zip(own, first, strict=True)]
        lines.append(f"| {side} | {speeds} | {processor} | {memory:.0f} | {_shown(ratios, 2)} |")
    return "\n".join(lines)


def agreement(runs: dict[str, list[Rollouts]]) -> str:
    """A sentence on how far the sides drew from one law.

    Raises:
        SystemExit: they made other numbers of tokens, or drew from other laws.
    """
    every = [run for own in runs.values() for run in own]
    if len({run.tokens for run in every}) > 1:
        made = ", ".join(f"{side} {run.tokens}" for side, own in runs.items() for run in own)
        raise SystemExit(f"the sides made other numbers of tokens: {made}")
    means = [run.mean_logp for run in every]
    allowed = 5 * SPREAD * (2 / every[0].tokens) ** 0.5
    if not all(abs(mean - means[0]) <= allowed for mean in means):
        raise SystemExit(f"mean log-probs {means} differ by more than {allowed:.3f} nats: they drew from other laws")
    apart = max(means) - min(means)
    return f"In {len(every)} processes of {every[0].tokens} tokens mean log-probs lie within {apart:.3f} nats."


def described(task: Task, threads: int) -> str:
    """What was run, and where."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return (
        f"{task.prompts} prompts of {task.prompt_tokens} tokens, {task.group_size} completions of {task.new_tokens} tokens "
        f"of each, vocabulary {task.vocabulary}, {task.rollouts} rollouts measured after one; float32, {threads} thread"
        f"{'s' if threads > 1 else ''}, {platform.machine()}, Python {platform.python_version()}, {versions}. All logits "
        f"of a rollout would be {task.tokens * task.vocabulary * 4 / 2**20:.0f} MiB."
    )


def _shown(values: Sequence[float], digits: int) -> str:
    middle, low, high = median_and_spread(list(values))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"prompts": 4, "group_size": 8, "prompt_tokens": 256, "new_tokens": 64, "rollouts": 2}
    for name, default in (sizes | {"repeats": 3, "threads": 1}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--out", type=Path, default=Path("runs/bench/rollout.json"))
    given = parser.parse_args(arguments)
    task = Task(**{name: getattr(given, name) for name in sizes}, vocabulary=VOCABULARY)
    runs = measure_all(task, given.sides, given.repeats, given.threads)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({side: [asdict(run) for run in own] for side, own in runs.items()}, indent=1))
    print(f"{described(task, given.threads)}\n\n{table(runs)}\n\n{agreement(runs)}")


if __name__ == "__main__":
    main()
