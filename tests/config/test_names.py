"""The name that was meant."""

import inspect
import sys

import pytest

from lit_rlhf.config import load_parts
from lit_rlhf.config.names import SYNONYMS, did_you_mean, nearest
from lit_rlhf.config.signatures import signature_of


@pytest.mark.parametrize("name, valid, near", [
    ("beta", ["betas", "tau"], "tau"),
    ("beta", ["betas", "reduce"], "betas"),
    ("lossx", ["actor", "loss"], "loss"),
    ("rda", ["RA", "RDA"], "RDA"),
    ("learning_rate", ["optimizer", "actor"], "optimizer"),
    ("per_device_train_batch_size", ["micro_batch_tokens", "batch_size"], "batch_size"),
])
def test_synonyms_come_first_and_then_the_spelling(name, valid, near):
    assert nearest(name, valid) == [near]


def test_a_name_that_is_like_no_other_is_answered_with_all_when_they_are_few():
    assert did_you_mean("xyz", ["b", "a"]) == "; there is a, b"
    assert did_you_mean("xyz", map(str, range(100))) == "" and did_you_mean("xyz", []) == ""


def test_every_synonym_is_an_argument_of_something():
    from lightning.pytorch import Trainer

    load_parts()
    modules = [module for name, module in sys.modules.items() if name.startswith("lit_rlhf.")]
    classes = {one for module in modules for one in vars(module).values() if inspect.isclass(one)} | {Trainer}
    taken = {name for one in classes for name in signature_of(one).arguments} | {"lr", "model", "data", "group_size"}
    assert {name for meant in SYNONYMS.values() for name in meant} <= taken
