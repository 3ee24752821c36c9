"""Every configuration of configs/: composed, stepped, validated, and what its class says it is."""

import functools
import importlib
import inspect
import pkgutil
import sys

import pytest
import torch
from configurations import ALL, CONFIGS, built
from lightning import Trainer
from omegaconf import OmegaConf

from lit_rlhf import algorithms, losses
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.reward_model import RewardAlgorithm
from lit_rlhf.algorithms.validation import innermost
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.losses.base import LossHead, Sum
from lit_rlhf.rewards.reviews import ReviewReward

NAMED = [
    cls for name in algorithms.__all__
    if (cls := getattr(algorithms, name)) not in (Algorithm, OnlineAlgorithm, RewardAlgorithm)
]
PARTS, SEVERAL = ("reference", "critic", "pairs", "opponent", "replay"), ("learned", "credit")
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
    algorithm = built(path)[0]
    assert len(body) <= (45 if algorithm.samples else 30) or isinstance(algorithm.loss, Sum)


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
    alone = by_itself(cls)
    assert alone.loss == given.loss
    for name in PARTS:
        assert type(getattr(alone, name, None)) is type(getattr(given, name, None)), name
    for name in SEVERAL:
        assert [type(one) for one in getattr(alone, name, ())] == [type(one) for one in getattr(given, name, ())], name
    assert getattr(alone, "group_size", 1) in (1, getattr(given, "group_size", 1))


@pytest.mark.parametrize("cls", NAMED, ids=lambda cls: cls.__name__)
def test_a_class_alone_has_the_parts_that_its_docstring_names(cls):
    alone = by_itself(cls)
    said = " ".join(inspect.getdoc(cls).split()).partition("The default ")[2]
    heads = [head for head, _ in innermost(alone.loss)]
    assert all(f"{type(head).__name__}" in said for head in heads)
    assert (f"`{type(alone.reference).__name__}()`" in said) == (alone.reference is not None)
    assert alone.critic is None or f"`{type(alone.critic).__name__}`" in said
    assert all(type(step).__name__ in said for step in getattr(alone, "credit", ()))


def by_itself(cls):
    """The class with nothing but what it cannot do without."""
    part = RewardModel if issubclass(cls, RewardAlgorithm) else Actor
    return cls(part("lit_rlhf/reviews"), **({"reward": ReviewReward()} if cls.samples else {}))


def test_files_that_are_a_variant_of_a_class_differ_from_it():
    variants = [path for path in ALL if type(built(path)[0]) in NAMED and not entry(path).own]
    assert len(variants) > 5
    for path in variants:
        given = built(path)[0]
        alone = by_itself(type(given))
        assert described(alone) != described(given), path.stem


def described(algorithm):
    """What sets it apart from others of its class."""
    settings = tuple(getattr(algorithm, name, None) for name in ("epochs", "minibatches", "group_size", "resample", "stop_kl"))
    parts = [(type(part), vars(part)) for part in getattr(algorithm, "credit", ())]
    return algorithm.loss, [type(getattr(algorithm, name, None)) for name in PARTS], parts, settings


def heads_of_given_data():
    """Heads of an actor and a reference, without arguments."""
    for module in ("bda", "listwise", "pra", "ra", "rda", "regularisers", "transport", "unpaired"):
        importlib.import_module(f"lit_rlhf.losses.{module}")
    elsewhere = {"score", "values", "behaviour", "advantages", "returns", "opponent", "soft_q", "tau", "log_partition"}
    return [cls for cls in plain_heads() if not cls().needs & elsewhere]


def heads_of_rollouts():
    """Heads of an actor and what credit makes, without arguments."""
    for module in pkgutil.iter_modules(losses.__path__, f"{losses.__name__}."):
        importlib.import_module(module.name)
    return [cls for cls in plain_heads() if "advantages" in cls().needs <= {"policy", "behaviour", "advantages"}]


def plain_heads():
    plain = {cls for cls in below(LossHead) if not inspect.isabstract(cls) and not required(cls)}
    return sorted(plain, key=lambda cls: cls.__name__)


def below(cls):
    own = {inner for inner in cls.__subclasses__() if inner.__module__.startswith("lit_rlhf.")}
    return own | {inner for one in own for inner in below(one)}


def required(cls):
    return [one.name for one in inspect.signature(cls).parameters.values() if one.default is one.empty]


@pytest.mark.parametrize("cls", heads_of_given_data() + heads_of_rollouts(), ids=lambda cls: cls.__name__)
def test_a_head_that_takes_anothers_place_starts_from_its_own_defaults(cls):
    from lit_rlhf.cli import build

    before, other = ("grpo", "policy.Reinforce") if cls in heads_of_rollouts() else ("exo", "listwise.InfoNCA")
    config = CONFIGS / f"{before}.yaml"
    between = [f"--model.loss=lit_rlhf.losses.{other}"] if type(built(config)[0].loss) is cls else []
    algorithm, _ = build(["--config", str(config), *between, f"--model.loss={cls.__module__}.{cls.__qualname__}"])
    assert algorithm.loss == cls()


def test_parts_are_spelt_out():
    for path in ALL:
        given = OmegaConf.to_container(OmegaConf.load(path))["model"]["init_args"]
        algorithm = built(path)[0]
        assert ("reference" in given) == (algorithm.reference is not None)
        assert ("learned" in given) == bool(algorithm.learned)
        assert ("critic" in given) == (algorithm.critic is not None)
        assert ("credit" in given) == bool(getattr(algorithm, "credit", ()))
        assert {"reward", "sampler"} <= set(given) or not algorithm.samples
        assert {"loss", "optimizer"} <= set(given)
