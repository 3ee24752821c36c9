"""What `evaluate` is asked for: policies, its own options, and what goes on to the configuration."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lit_rlhf.errors import InputError

OPTIONS = {
    "--config C": "gives data, model.reward and model.sampler; without it the first run's own configuration does",
    "--prompts FILE": "prompts of a file or hub data set, instead of the validation rows",
    "--split val|test": "whose prompts (default: val)",
    "--limit N": "the first N prompts (default: all)",
    "--samples K": "completions of each prompt (default: 4)",
    "--baseline POLICY": "what win rates, gains and KL are to (default: what the configuration's actor starts from, "
    "else the first policy)",
    "--reward CLASS": "over model.reward of the configuration; --reward.key=value sets its arguments",
    "--judge CLASS": "says which of two completions is better; without one the higher reward wins and a tie is half",
    "--sampler CLASS": "over model.sampler of the configuration; --sampler.key=value sets its arguments",
    "--temperature T": "the same as --sampler.temperature=T",
    "--max_new_tokens M": "the same as --sampler.max_new_tokens=M",
    "--dtype NAME": "of the weights: float32, bfloat16 or float16 (default: float32)",
    "--device NAME": "cpu, cuda, ... (default: cuda where there is one)",
    "--out DIR": "a new folder for table, JSON, pictures and completions (default: runs/evaluations/NAME)",
    "--key=value": "over the configuration, as in --data.batch_size=8",
}
DTYPES = ("float32", "bfloat16", "float16")
_OWN = dict.fromkeys(("prompts", "split", "baseline", "dtype", "device", "out"), str) | {"limit": int, "samples": int}
_SHORT = {"temperature": "sampler.temperature", "max_new_tokens": "sampler.max_new_tokens"}
_PARTS = ("config", "reward", "judge", "sampler", "model", "data", "vars", "trainer", "run", "seed_everything")


@dataclass(frozen=True)
class Asked:
    """The command line of `evaluate`."""

    policies: tuple[str, ...]
    """Runs, `RUN:best`, `RUN:last`, folders, hub names."""
    configuration: tuple[str, ...] = ()
    """`--config` and overrides."""
    prompts: str | None = None
    split: str = "val"
    limit: int | None = None
    samples: int = 4
    baseline: str | None = None
    dtype: str = "float32"
    device: str | None = None
    out: str | None = None
    configured: bool = field(default=False)
    """Whether a configuration is named."""

    @property
    def named(self) -> dict[str, str]:
        """Every policy and the argument that names it."""
        own = {} if self.baseline is None else {self.baseline: "--baseline"}
        return own | dict.fromkeys(self.policies, "POLICY")


def asked(arguments: Sequence[str]) -> Asked:
    """Reads the command line.

    Raises:
        InputError: no policy, one twice, an option that there is not, or a value out of range.
    """
    policies: list[str] = []
    configuration: list[str] = []
    own: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            policies.append(word)
            continue
        key, value = _option(word, waiting)
        first = key.removesuffix("+").partition(".")[0]
        if key in _OWN:
            own[key] = _read(key, value)
        elif key in _SHORT or first in _PARTS:
            configuration.append(f"--{_SHORT.get(key, key)}={value}")
        else:
            near = difflib.get_close_matches(key, [*_OWN, *_SHORT, *_PARTS], n=1)
            hint = f"did you mean --{near[0]}?" if near else "--help lists them"
            raise InputError(f"--{key}: no such option; {hint}")
    named = any(word.startswith("--config=") for word in configuration)
    if "prompts" in own and own.setdefault("split", "test") != "test":
        raise InputError(f"--split={own['split']}: --prompts takes the place of a split; leave one of them out")
    found = Asked(tuple(policies), tuple(configuration), configured=named, **own)
    _check(found)
    return found


def _option(word: str, waiting: list[str]) -> tuple[str, str]:
    """Key and value of `--key=value`, or of `--key` and the word that follows."""
    key, equals, value = ("--config" if word == "-c" else word).removeprefix("--").partition("=")
    if not equals and waiting and not waiting[0].startswith("--"):
        value = waiting.pop(0)
    if not value or not key:
        raise InputError(f"--{key}: has no value; write --{key}=VALUE")
    return key, value


def _read(key: str, value: str) -> Any:
    try:
        return _OWN[key](value)
    except ValueError:
        raise InputError(f"--{key}={value}: expected a whole number") from None


def _check(found: Asked) -> None:
    if not found.policies:
        raise InputError("evaluate: no policy; name runs, folders or hub models, as in: evaluate runs/ppo runs/sft")
    twice = next((policy for policy in found.policies if found.policies.count(policy) > 1), None)
    if twice is not None:
        raise InputError(f"{twice}: named twice; {twice}:best and {twice}:last are two checkpoints of a run")
    for name, wrong, expected in (
        ("split", found.split not in ("val", "test"), "val or test"),
        ("samples", found.samples < 1, "1 or more"),
        ("limit", found.limit is not None and found.limit < 1, "1 or more"),
        ("dtype", found.dtype not in DTYPES, ", ".join(DTYPES)),
    ):
        if wrong:
            raise InputError(f"--{name}={getattr(found, name)}: expected {expected}")


def usage() -> str:
    """What `evaluate --help` prints."""
    width = max(map(len, OPTIONS))
    rows = [f"  {option:<{width}}  {meaning}" for option, meaning in OPTIONS.items()]
    return "\n".join([
        "python -m lit_rlhf evaluate POLICY [POLICY ...] [options]: policies side by side on the same prompts", "",
        "POLICY is a run (runs/ppo: its best checkpoint where one is monitored, else its last), runs/ppo:best,",
        "runs/ppo:last, a folder or a hub name. Reward of their completions, win rate against a baseline, KL to it,",
        "length and diversity, each with a 95 % interval over prompts: a table, JSON, pictures and all completions.", "",
        *rows,
    ])
