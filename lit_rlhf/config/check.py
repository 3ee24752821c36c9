"""The second stage, after the heavy imports: the tree against the signatures of what it names."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from lit_rlhf.config.compose import Composed
from lit_rlhf.config.mistakes import Mistakes, written
from lit_rlhf.config.names import SYNONYMS, did_you_mean, nearest
from lit_rlhf.config.refusals import NOT_HERE, refusals
from lit_rlhf.config.signatures import signature_of
from lit_rlhf.config.values import Problem, Walk

PARTS = ("losses", "algorithms", "components", "credit", "sampling", "rewards", "data", "callbacks")
COMMANDS = ("fit", "validate", "test", "predict")
_SURE = 0.75


def load_parts() -> None:
    """Imports every module of the package that holds parts, so that classes can be named without their modules."""
    for folder in PARTS:
        package = importlib.import_module(f"lit_rlhf.{folder}")
        for module in pkgutil.iter_modules(package.__path__, f"lit_rlhf.{folder}."):
            importlib.import_module(module.name)


def check(composed: Composed, root: Mapping[str, Any] | None = None) -> None:
    """Finds unknown keys and classes, missing arguments, wrong types and choices at any depth.

    Args:
        composed: what `compose` gave.
        root: type of every top-level key; those of the Trainer's commands when None.

    Raises:
        ConfigErrors: there are mistakes; all of them.
    """
    load_parts()
    hints = top_level() if root is None else dict(root)
    walk, mistakes = Walk(), Mistakes()
    refused = dict(refusals(composed.tree))
    for key, sentence in refused.items():
        mistakes.add(composed.place(key), key, sentence)
    for problem in problems(composed.tree, hints, walk):
        if written(problem.path) not in refused:
            sentence = problem.sentence + _hint(problem, walk)
            mistakes.add(_place(composed, problem), written(problem.path), sentence)
    mistakes.refuse()


def top_level() -> dict[str, Any]:
    """The type of every key that LightningCLI takes at the top, for all commands together; required ones first."""
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.cli import LightningCLI

    hints: dict[str, Any] = {"model": LightningModule, "data": LightningDataModule, "trainer": Trainer}
    hints["seed_everything"] = bool | int
    for command in COMMANDS:
        given = {"self", *LightningCLI.subcommands()[command]}
        arguments = signature_of(getattr(Trainer, command)).arguments
        hints |= {name: argument.hint for name, argument in arguments.items() if name not in given}
    return hints


def problems(tree: Mapping[str, Any], hints: Mapping[str, Any], walk: Walk) -> list[Problem]:
    """What is wrong with a tree, key by key."""
    from lightning.pytorch import Trainer

    walk.valid[""], walk.given[""] = tuple(hints), tuple(tree)
    found = []
    for key, value in tree.items():
        if key not in hints:
            found.append(Problem(key, f"there is no key {key}", unknown=key))
        elif hints[key] is Trainer:
            found += walk.arguments(value, signature_of(Trainer), "Trainer", key)
        else:
            found += walk.value(value, hints[key], key)
    absent = [key for key in ("model", "data") if key in hints and key not in tree]
    return found + [Problem(key, f"no configuration has {key}; add one that has, as in --config dpo") for key in absent]


def _place(composed: Composed, problem: Problem) -> str:
    if problem.path.partition(".")[0] in composed.root.value:
        return composed.place(problem.path)
    return " + ".join(map(str, composed.files)) or "--config"


def _hint(problem: Problem, walk: Walk) -> str:
    """What an unknown name was meant to be: here, or elsewhere in the tree."""
    if problem.unknown is None:
        return ""
    above = problem.path.rpartition(".")[0]
    here = [name for name in walk.valid[above] if not (above == "trainer" and name in NOT_HERE)]
    meant = (problem.unknown, *SYNONYMS.get(problem.unknown, ()))
    exact = [name for known in meant for name in ([known] if known in here else _elsewhere(known, walk))]
    near = nearest(problem.unknown, here, cutoff=_SURE) if problem.unknown not in SYNONYMS else []
    best = (near + exact)[:1]
    return f"; did you mean {best[0]}?" if best else did_you_mean(problem.unknown, here)


def _elsewhere(name: str, walk: Walk) -> list[str]:
    """The keys of this name below other parts, those that are set before those that could be."""
    paths = [path for path, names in walk.valid.items() if name in names]
    paths.sort(key=lambda path: name not in walk.given[path])
    return [written(f"{path}.{name}").strip(".") for path in paths]
