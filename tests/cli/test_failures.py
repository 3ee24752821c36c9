"""Exceptions of constructors and of running."""

import errno

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_rlhf.cli.failures import explained, located, original, refused
from lit_rlhf.cli.runs import Run
from lit_rlhf.config import compose
from lit_rlhf.errors import InputError, RunFailed


class Part:
    def __init__(self, kind: str = "input") -> None:
        raise {
            "input": InputError("part.kind: wrong"), "value": ValueError("not\n  this"), "bug": AttributeError("a bug"),
        }[kind]


class Whole:
    def __init__(self, part: Part | None = None) -> None:
        self.part = part


class Stopped:
    """A trainer that was not interrupted."""

    interrupted = False


def construct(kind):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Whole, "whole")
    part = {"class_path": f"{__name__}.Part", "init_args": {"kind": kind}}
    config = parser.parse_object({"whole": {"class_path": f"{__name__}.Whole", "init_args": {"part": part}}})
    with refused():
        parser.instantiate_classes(config)


def test_an_input_error_of_a_nested_constructor_arrives_alone():
    with pytest.raises(InputError) as caught:
        construct("input")
    assert str(caught.value) == "part.kind: wrong"


def test_a_value_error_of_a_constructor_becomes_a_line_that_names_the_class():
    with pytest.raises(InputError) as caught:
        construct("value")
    assert str(caught.value) == "Part: not this"


def test_a_mistake_in_the_code_of_a_constructor_stays_what_it_is():
    with pytest.raises(AttributeError, match="a bug"):
        construct("bug")


def test_a_parsing_error_is_one_line_without_the_types_that_were_tried():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--n", type=int | None)
    with pytest.raises(InputError) as caught, refused():
        parser.parse_object({"n": "x"})
    assert "\n" not in str(caught.value) and str(caught.value).startswith("n: ") and "Subtypes" not in str(caught.value)


def test_an_exception_of_ours_has_no_other_origin():
    try:
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise ValueError("ours") from error
    except ValueError as error:
        assert original(error) is error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RunFailed, "data.micro_batch_tokens=64"),
        (MemoryError(), RunFailed, "--data.micro_batch_tokens=32"),
        (RuntimeError("gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:3"), RunFailed, "another process"),
        (FloatingPointError("the rows of the step"), RunFailed, "the rows of the step"),
        (OSError(errno.ENOSPC, "No space left on device", "a.ckpt"), RunFailed, "No space left on device: a.ckpt"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), RunFailed, "Permission denied: runs/x"),
        (MisconfigurationException("two\nlines"), InputError, "trainer: two lines"),
        (InputError("ours"), InputError, "ours"),
        (RunFailed("Function f raises"), RunFailed, "Function f raises\nruns/x has no checkpoint yet"),
        (RuntimeError("another"), RuntimeError, "another"),
    ],
    ids=repr,
)
def test_a_known_failure_has_its_sentence(error, kind, said, tmp_path, monkeypatch):
    class Data:
        micro_batch_tokens = 64

    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught, explained(Stopped(), Data(), Run("x")):
        raise error
    assert type(caught.value) is kind and said in str(caught.value)


@pytest.mark.parametrize(("key", "said"), [
    ("data.train", "--data.train=a.jsonl: no rows"),
    ("data.test", "data.test: no rows"),
    ("model.optimizer.class_path", "dpo.yaml:18: model.optimizer.class_path: no rows"),
])
def test_the_place_of_a_sentence_is_one_that_set_its_key(key, said):
    composed = compose(["--config", "configs/dpo.yaml", "--data=Files", "--data.train=a.jsonl"])
    with pytest.raises(InputError) as caught, located(composed):
        raise InputError(f"{key}: no rows")
    assert said in str(caught.value)
