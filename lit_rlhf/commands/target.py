"""`python -m lit_rlhf target --config C`: what a composition converges to, on a problem that can be solved exactly."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_rlhf.errors import InputError

FOLDER = Path("runs") / "targets"
OPTIONS = {
    "--config C": "the composition, as for fit; its models, sampler and reward become tables, and no weights are read",
    "--tau T": "in the place of the composition's own temperature",
    "--labels KIND": "of pairs: soft, sampled or hard (default: what the data have)",
    "--policy KIND": "what the policy has a logit for: a whole response, or each token of it (default: response)",
    "--seed N": "of the problem: rewards and base law (default: 0)",
    "--scale S": "standard deviation of its rewards (default: 1; on-line twice tau, so that no response has it all)",
    "--seconds N": "after which searches end as they are (default: 50)",
    "--out DIR": "a folder for the report, JSON, picture and TensorBoard (default: runs/targets/NAME)",
    "--key=value": "over the configuration, as in --model.loss.link=Hinge",
}
_OWN = {"tau": float, "labels": str, "policy": str, "seed": int, "scale": float, "seconds": float, "out": str}


def main(arguments: Sequence[str]) -> None:
    """Prints the answer and writes it as text, JSON and a picture.

    Args:
        arguments: `--config C`, options and overrides.

    Raises:
        InputError: the composition is wrong, or an option is.
    """
    if {"-h", "--help"} & set(arguments):
        return print(usage())
    own, configuration = asked(arguments)
    from lit_rlhf.cli import build
    from lit_rlhf.theory.report import text

    start = time.perf_counter()
    algorithm, data = build(configuration)
    answer = answered(algorithm, data, _name(configuration), **{name: own[name] for name in own if name != "out"})
    folder = Path(own["out"]) if "out" in own else _folder(answer.name)
    print(text(answer))
    written(answer, folder)
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"\n{folder}: {files}; {time.perf_counter() - start:.0f} s")


def asked(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Own options by name, and what goes on to the configuration.

    Raises:
        InputError: an option has no value or a wrong one.
    """
    own: dict[str, Any] = {}
    configuration: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in _OWN or not word.startswith("--"):
            configuration.append(word)
            continue
        if not equals:
            value = waiting.pop(0) if waiting else ""
        try:
            own[name] = _OWN[name](value)
        except ValueError:
            kind = "a whole number" if _OWN[name] is int else "a number"
            raise InputError(f"--{name}={value}: expected {kind}") from None
    for name, wrong, expected in (
        ("labels", own.get("labels", "soft") not in ("soft", "sampled", "hard"), "soft, sampled or hard"),
        ("policy", own.get("policy", "token") not in ("response", "token"), "response or token"),
        ("scale", not own.get("scale", 1.0) > 0, "a positive number"),
        ("seconds", not own.get("seconds", 1.0) > 0, "a positive number"),
    ):
        if wrong:
            raise InputError(f"--{name}={own[name]}: expected {expected}")
    return own, configuration


def setting(
    algorithm: Any, data: Any, labels: str | None = None, seed: int = 0, scale: float | None = None,
    policy: str = "response", seconds: float = 50.0,
) -> Any:
    """What a composition is asked on.

    Args:
        algorithm: as it is configured; none of its weights is read.
        data: its data module, for the kind of its labels and its responses to a prompt.
        labels: of pairs.
        seed: of the problem.
        scale: of its rewards.
        policy: what it has a logit for.
        seconds: of the searches, from now on.

    Raises:
        InputError: the data do not have what the head reads.
    """
    from lit_rlhf.theory.feedback import labels_of
    from lit_rlhf.theory.finding import Setting
    from lit_rlhf.theory.aims import aim_of
    from lit_rlhf.theory.problem import Problem

    aim = aim_of(algorithm)
    natural = aim.tau or next(iter(aim.penalties), 0.0)
    scale = scale or (2 * natural if algorithm.samples else 0.0) or 1.0
    own = labels_of(algorithm, data)
    return Setting(
        Problem.drawn(seed, scale), labels or own, getattr(data, "responses", 4), time.perf_counter() + seconds, by=policy,
    )


def answered(algorithm: Any, data: Any, name: str, tau: float | None = None, **asked: Any) -> Any:
    """The answer for a composition.

    Args:
        algorithm: as it is configured.
        data: its data module.
        name: of the answer.
        tau: in the place of its own.
        asked: of `setting`.

    Raises:
        InputError: a temperature that is none, or a composition without one to replace.
    """
    from lit_rlhf.theory.finding import find
    from lit_rlhf.theory.aims import with_tau
    from lit_rlhf.theory.report import Answer
    from lit_rlhf.theory.variations import variations

    algorithm = algorithm if tau is None else with_tau(algorithm, tau)
    print(f"{name}: where training ends ...", flush=True)
    found = find(algorithm, setting(algorithm, data, **asked))
    rate, changed = _pace(algorithm, found), []
    if found.end.outcome != "not finite":
        for one in variations(algorithm, found):
            print(f"  {one.what}: done", flush=True)
            changed.append(one)
    return Answer(name, algorithm, found, rate, tuple(changed))


def _pace(algorithm: Any, found: Any) -> Any:
    """The rate where an off-line search ended."""
    if algorithm.samples or found.end.outcome != "minimiser":
        return None
    from lit_rlhf.theory.finding import exact_field
    from lit_rlhf.theory.pace import pace

    return pace(exact_field(algorithm, found.setting), found.end.weights)


def written(answer: Any, folder: Path) -> None:
    """Every file whole or not at all."""
    from lit_rlhf.callbacks.files import replacing
    from lit_rlhf.theory.picture import picture
    from lit_rlhf.theory.record import tree
    from lit_rlhf.theory.report import text

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "target.txt") as file:
        file.write(text(answer) + "\n")
    with replacing(folder / "target.json") as file:
        json.dump(tree(answer), file, indent=2, allow_nan=False)
    figure = picture(answer)
    with replacing(folder / "target.png", "wb") as file:
        figure.savefig(file, format="png")
    with contextlib.closing(_writer(folder)) as writer:
        writer.add_figure("target", figure)
        writer.add_text("target", f"```\n{text(answer)}\n```")


def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(folder))


def _name(configuration: Sequence[str]) -> str:
    """The last file of the configuration, without its ending."""
    from lit_rlhf.cli.running import given

    return Path(given(configuration, "config") or "composition").stem


def _folder(name: str) -> Path:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for one in names if not (folder := FOLDER / one).exists())


def usage() -> str:
    """What `target --help` prints."""
    width = max(map(len, OPTIONS))
    rows = [f"  {option:<{width}}  {meaning}" for option, meaning in OPTIONS.items()]
    return "\n".join(["python -m lit_rlhf target --config C [options]: what this composition converges to", "", *rows])
