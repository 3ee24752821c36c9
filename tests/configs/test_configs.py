"""Every configuration of configs/: composed, stepped, validated, and what its class says it is."""

import functools
import importlib
import inspect
import sys

import pytest
import torch
from configurations import ALL, CONFIGS, built
from lightning import Trainer
from omegaconf import OmegaConf

from lit_rlhf import algorithms
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.reward_model import RewardAlgorithm
from lit_rlhf.algorithms.validation import innermost
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.losses.base import LossHead, Sum
from lit_rlhf.losses.pra import PRA

NAMED = [
    cls for name in algorithms.__all__
    if (cls := getattr(algorithms, name)) not in (Algorithm, RewardAlgorithm)
]
every = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)


@functools.cache
def entry(path):
    """The file as the page of algorithms reads it, its algorithm built."""
    sys.path.insert(0, str(CONFIGS.parent / "tools"))
    try:
        module = importlib.import_module("algorithm_entries")
    finally:
        sys.path.pop(0)
    return module.Entry(path, built(path)[0])


@every
def test_two_updates_and_a_validation(path):
    algorithm, data = built(path)
    algorithm.configure_model()
    before = [weight.detach().clone() for weight in algorithm.parameters() if weight.requires_grad]
    trainer = Trainer(
        max_steps=2, val_check_interval=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )
    trainer.fit(algorithm, data)
    assert trainer.global_step == 2
    after = [weight for weight in algorithm.parameters() if weight.requires_grad]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(torch.isfinite(weight).all() for weight in after)
    assert all(metric.update_called for metric in algorithm.metrics)


@every
def test_it_opens_with_its_command_and_is_short(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# python -m lit_rlhf fit --config configs/{path.name}"
    assert all(len(line) <= 120 for line in lines)
    body = [line for line in lines if not line.startswith("#")]
    assert body[0] == "version: 1"
    assert len(body) <= 30 or isinstance(built(path)[0].loss, Sum)


@every
def test_family_and_form_are_those_of_the_composition(path):
    found = entry(path)
    algorithm, own = found.algorithm, found.description
    hidden = all(prior for head, prior in innermost(algorithm.loss) if head.family != "regulariser")
    form = "prior" if algorithm.reference is None or hidden else "posterior"
    assert own.form in ({form} if form == "posterior" else {form, "-"})
    assert own.sentence.startswith((found.family, "Maximum likelihood"))
    assert own.equation and own.target


@every
def test_the_comment_of_a_file_says_what_its_class_does(path):
    found = entry(path)
    sentence, _, needed = found.header[0].partition(": ")[2].partition(";")
    assert sentence.lower() == found.description.sentence.lower()
    assert (" reference" in needed) == (found.algorithm.reference is not None)


@pytest.mark.parametrize("cls", NAMED, ids=lambda cls: cls.__name__)
def test_the_defaults_of_a_class_are_the_parts_of_its_own_file(cls):
    mine = [path for path in ALL if type(built(path)[0]) is cls and entry(path).own]
    assert len(mine) == 1
    given = built(mine[0])[0]
    part = RewardModel if issubclass(cls, RewardAlgorithm) else Actor
    alone = cls(part("lit_rlhf/reviews"))
    assert alone.loss == given.loss
    assert type(alone.reference) is type(given.reference)
    assert [type(one) for one in alone.learned] == [type(one) for one in given.learned]


@pytest.mark.parametrize("cls", NAMED, ids=lambda cls: cls.__name__)
def test_a_class_alone_has_the_parts_that_its_docstring_names(cls):
    part = RewardModel if issubclass(cls, RewardAlgorithm) else Actor
    alone = cls(part("lit_rlhf/reviews"))
    said = " ".join(inspect.getdoc(cls).split()).partition("The default ")[2]
    heads = [head for head, _ in innermost(alone.loss)]
    assert all(f"{type(head).__name__}" in said for head in heads)
    assert (f"`{type(alone.reference).__name__}()`" in said) == (alone.reference is not None)


def test_files_that_are_a_variant_of_a_class_differ_from_it():
    variants = [path for path in ALL if type(built(path)[0]) in NAMED and not entry(path).own]
    assert len(variants) > 5
    for path in variants:
        given = built(path)[0]
        alone = type(given)(Actor("lit_rlhf/reviews"))
        assert (alone.loss, type(alone.reference)) != (given.loss, type(given.reference)), path.stem


def heads_of_given_data():
    """Heads of an actor and a reference, without arguments."""
    for module in ("bda", "listwise", "pra", "ra", "rda", "regularisers", "transport", "unpaired"):
        importlib.import_module(f"lit_rlhf.losses.{module}")
    elsewhere = {"score", "values", "behaviour", "advantages", "returns", "log_partition"}
    plain = {cls for cls in below(LossHead) if not inspect.isabstract(cls) and not required(cls)}
    return sorted((cls for cls in plain if not cls().needs & elsewhere), key=lambda cls: cls.__name__)


def below(cls):
    own = {inner for inner in cls.__subclasses__() if inner.__module__.startswith("lit_rlhf.")}
    return own | {inner for one in own for inner in below(one)}


def required(cls):
    return [one.name for one in inspect.signature(cls).parameters.values() if one.default is one.empty]


@pytest.mark.parametrize("cls", heads_of_given_data(), ids=lambda cls: cls.__name__)
def test_a_head_that_takes_anothers_place_starts_from_its_own_defaults(cls):
    from lit_rlhf.cli import build

    before = "ld_dpo" if cls is PRA else "exo"  # a file with a head of another class
    path = f"{cls.__module__}.{cls.__qualname__}"
    algorithm, _ = build(["--config", str(CONFIGS / f"{before}.yaml"), f"--model.loss={path}"])
    assert algorithm.loss == cls()


def test_parts_are_spelt_out():
    for path in ALL:
        given = OmegaConf.to_container(OmegaConf.load(path))["model"]["init_args"]
        algorithm = built(path)[0]
        assert ("reference" in given) == (algorithm.reference is not None)
        assert ("learned" in given) == bool(algorithm.learned)
        assert {"loss", "optimizer"} <= set(given)
