"""The page of metric names against what every head and every callback emits."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance.heads import concrete

import lit_rlhf.callbacks
import lit_rlhf.credit
import lit_rlhf.losses
from lit_rlhf.algorithms.recording import named
from lit_rlhf.algorithms.validation import default_metrics
from lit_rlhf.algorithms.watching import of_ratio, watched
from lit_rlhf.callbacks.names import known_names, probe
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.temporal import RewardToGo
from lit_rlhf.losses.base import LossHead, Wrapper
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.sampling.native import NativeSampler

PAGE = Path(lit_rlhf.callbacks.__file__).with_name("README.md")


def heads():
    """One of every head of the package that can be made without arguments."""
    found = {}
    for module in pkgutil.iter_modules(lit_rlhf.losses.__path__):
        for name, kind in vars(importlib.import_module(f"lit_rlhf.losses.{module.name}")).items():
            concrete = inspect.isclass(kind) and issubclass(kind, LossHead) and not inspect.isabstract(kind)
            if concrete and not issubclass(kind, Wrapper) and name != "Sum" and kind is not LossHead:
                found[name] = kind
    return found


def composition(loss):
    """Everything that names are asked of, with every part there."""
    learned = [SimpleNamespace(fills="log_partition"), SimpleNamespace(fills="tau")]
    return SimpleNamespace(
        loss=loss, trains="reward" if "score" in loss.needs else "actor", reference=object(), samples=False,
        critic=SimpleNamespace(fills="soft_q" if "soft_q" in loss.needs else "values"),
        learned=learned, parts=(("<part>", None),), metrics=default_metrics(loss), watch=watched,
    )


def sampling(*credit):
    """The same of one that samples, with a reward that is right or wrong, two completions of each prompt, and an opponent."""
    module = composition(ClippedSurrogate())
    module.samples, module.credit, module.opponent, module.val_samples = True, credit, object(), 2
    module.group_size, module.sampler, module.paired, module.pairs = 2, NativeSampler(), False, None
    module.reward, module.watch = SimpleNamespace(verifiable=True), lambda *seen: (*watched(*seen), *of_ratio(*seen))
    return module


def steps():
    """Every credit step of the package, with those before it that it needs."""
    for module in pkgutil.iter_modules(lit_rlhf.credit.__path__):
        importlib.import_module(f"lit_rlhf.credit.{module.name}")
    for kind in concrete(CreditStep):
        step = kind()
        yield (RewardToGo(), step) if "advantages" in step.needs else (step,)


def emitted():
    names = {"train/loss/<term>", "val/loss/<term>"}
    for kind in heads().values():
        module = composition(kind())
        terms = [name for name, _ in named(probe(module).terms)]
        names |= known_names(module) - {f"{stage}/loss/{term}" for term in terms for stage in ("train", "val")}
    for credit in steps():
        names |= known_names(sampling(*credit))
    return names


def documented():
    tables = r"Under `train/` and `val/` both.*?:\n\n(\|.*?)\n\n.*?full name:\n\n(\|.*?)\n\n"
    both, full = re.search(tables, PAGE.read_text(encoding="utf-8"), re.S).groups()

    def first_column(table):
        return [name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]

    return {f"{stage}/{name}" for name in first_column(both) for stage in ("train", "val")} | set(first_column(full))


def test_the_page_lists_what_is_emitted_and_nothing_else():
    assert emitted() - documented() == set()
    assert documented() - emitted() == set()


@pytest.mark.parametrize("name", heads())
def test_every_head_can_be_asked_for_its_names_without_a_model(name):
    module = composition(heads()[name]())
    assert probe(module).terms and "train/loss" in known_names(module)
