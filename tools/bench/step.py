"""One DPO step of ours and of TRL, the same work in fresh processes taken in turn: `python tools/bench/step.py`.

    python tools/bench/step.py [--lengths hh_harmless | --lengths PROMPT,COMPLETION] [--sides ours trl trl_tuned]
                               [--warmup 1] [--steps 2] [--repeats 3] [--threads 2] [--seed 45]
                               [--out runs/bench/step.json]

Every process gets the same rows of ids, the same start weights and the same optimizer. The command ends with an error
where a loss or a gradient norm of any two differs by more than 1e-4, and prints a table otherwise.
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
from measured import TOLERANCE, Run, disagreement, median_and_spread
from workload import PAIRS_PER_STEP, SEED, Workload, make_workload, write_start

HERE = Path(__file__).parent
SIDES = {
    "ours": "step_ours.py",
    "trl": "step_trl.py",
    "trl_tuned": "step_trl.py",
    "ours_cached": "step_ours.py",
    "trl_precomputed": "step_trl.py",
}
PACKAGES = ("torch", "transformers", "lightning", "trl")


def measure(folder: Path, side: str, out: Path, threads: int) -> Run:
    """One fresh process.

    Raises:
        SystemExit: it failed; with the end of what it wrote.
    """
    environment = os.environ | offline.ENVIRONMENT | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, str(HERE / SIDES[side]), str(folder), str(out), side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return Run.load(out)


def measure_all(workload: Workload, sides: Sequence[str], repeats: int, threads: int) -> dict[str, list[Run]]:
    """The runs of every side, taken in turn so that a slow minute of the machine falls on all."""
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        workload.save(folder)
        write_start(folder)
        for repeat in range(repeats):
            for side in sides:
                own = folder / f"{side}-{repeat}"
                own.mkdir()
                runs[side].append(measure(folder, side, own / "run.json", threads))
                print(f"{side}: {runs[side][-1].step_seconds:.3f} s a step", file=sys.stderr)
    return runs


def table(runs: dict[str, list[Run]]) -> str:
    """A Markdown table: the median over processes and in brackets the range; ratios are of processes of one turn."""
    lines = [
        "| side | seconds a step | peak memory, MiB | of it after the imports | times the first |",
        "|---|---|---|---|---|",
    ]
    first = next(iter(runs.values()))
    for side, own in runs.items():
        seconds, low, high = median_and_spread([run.step_seconds for run in own])
        memory, _, _ = median_and_spread([run.peak_mib for run in own])
        added, _, _ = median_and_spread([run.peak_mib - run.base_mib for run in own])
        ratios = [one.step_seconds / other.step_seconds for one, other in zip(own, first, strict=True)]
        ratio, least, most = median_and_spread(ratios)
        lines.append(
            f"| {side} | {seconds:.2f} ({low:.2f} to {high:.2f}) | {memory:.0f} | {added:.0f} "
            f"| {ratio:.2f} ({least:.2f} to {most:.2f}) |"
        )
    return "\n".join(lines)


def agreement(runs: dict[str, list[Run]]) -> str:
    """A sentence on how far losses and gradient norms are apart.

    Raises:
        SystemExit: farther than the tolerance, so that the sides did not do the same work.
    """
    every = [run for own in runs.values() for run in own]
    loss, norm = disagreement(every)
    if max(loss, norm) > TOLERANCE:
        shown = "\n".join(f"{side}: {own[0].losses} {own[0].grad_norms}" for side, own in runs.items())
        raise SystemExit(f"losses differ by {loss:.1e}, gradient norms by {norm:.1e}: more than {TOLERANCE}\n{shown}")
    return (
        f"In {len(every)} processes of {len(every[0].losses)} steps losses agree to {loss:.0e} and gradient norms to "
        f"{norm:.0e}, relatively."
    )


def described(workload: Workload, threads: int) -> str:
    """What was run, and where."""
    tokens = {name: round(count / workload.steps) for name, count in workload.tokens().items()}
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Lengths {workload.name}, {workload.steps} steps of {PAIRS_PER_STEP} pairs, {tokens['raw']} tokens a step "
        f"(prompts once: {tokens['unique']}; in rows padded to the longest of the step: {tokens['padded']}); {threads} "
        f"threads, {platform.machine()}, Python {platform.python_version()}, {versions}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="hh_harmless")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["ours", "trl", "trl_tuned"])
    for name, default in {"warmup": 1, "steps": 2, "repeats": 3, "threads": 2, "seed": SEED}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/step.json"))
    given = parser.parse_args(arguments)
    workload = make_workload(given.lengths, given.warmup, given.steps, given.seed)
    runs = measure_all(workload, given.sides, given.repeats, given.threads)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({side: [asdict(run) for run in own] for side, own in runs.items()}, indent=1))
    print(f"{described(workload, given.threads)}\n\n{table(runs)}\n\n{agreement(runs)}")


if __name__ == "__main__":
    main()
