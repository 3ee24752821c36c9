"""What does every config converge to? One line each, by the laboratory of `python -m lit_rlhf target`.

    python tools/targets.py [CONFIG ...] [--seconds N]

CONFIG is a file or the name of one in configs/; all of them and the recipes without it. Exit code 0 if each has an answer.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch

from lit_rlhf.cli import build
from lit_rlhf.commands.target import setting
from lit_rlhf.config.places import find as place
from lit_rlhf.config.places import missing
from lit_rlhf.theory.finding import find
from lit_rlhf.theory.report import summary

CONFIGS = Path(__file__).parents[1] / "configs"


def answer(config: Path, seconds: float) -> tuple[bool, str]:
    """Whether a config has an answer, and its line."""
    start = time.perf_counter()
    try:
        algorithm, data = build(["--config", str(config)])
        line, good = summary(find(algorithm, setting(algorithm, data, seconds=seconds))), True
    except Exception as error:
        traceback.print_exception(error)
        line, good = f"{type(error).__name__}: {error}", False
    name = str(config.relative_to(CONFIGS).with_suffix("")) if config.is_relative_to(CONFIGS) else config.stem
    return good, f"{name:<28}{time.perf_counter() - start:>5.0f}s  {line}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each (default: 60)")
    options = parser.parse_args()
    named = [place(name) or parser.error(f"{name}: {missing(name)}") for name in options.configs]
    configs = named or [*sorted(CONFIGS.glob("*.yaml")), *sorted(CONFIGS.glob("recipes/*/*.yaml"))]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    verdicts = []
    for config in configs:
        good, row = answer(config, options.seconds)
        verdicts.append(good)
        print(row, flush=True)
    print(f"{sum(verdicts)} of {len(verdicts)} have an answer")
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main())
