"""A value against a type."""

import collections.abc
import pathlib
import typing
from abc import ABC, abstractmethod

import pytest

from lit_rlhf.config.values import Walk


class Part(ABC):
    @abstractmethod
    def do(self): ...


class Real(Part):
    def __init__(self, size: int, child: Part | None = None) -> None: ...

    def do(self): ...


class Product:
    def __init__(self, given, extra: float = 0.0) -> None: ...


FACTORY = collections.abc.Callable[[list], Product]
REAL = f"{__name__}.Real"
REAL_OF_2 = {"class_path": REAL, "init_args": {"size": 2}}
PRODUCT = f"{__name__}.Product"


@pytest.mark.parametrize("value, hint", [
    (1, int), ("1", int), (1, float), ("1e-3", float), (True, bool), ("true", bool), ("1", str), (None, type(None)),
    (None, int | None),
    ("a", typing.Literal["a", 1]), (1, typing.Literal["a", 1]), ([1, 2], list[int]), ([1, 2.5], tuple[int, float]),
    ([], tuple[int, ...]),
    ([1, 2, 3], tuple[int, ...]), ("[1, 2]", list[int]), ({"a": 1}, dict[str, int]), ({"a": 1}, dict),
    ({"a": [1]}, dict[str, typing.Any]),
    ("x", pathlib.Path), ("x", str | pathlib.Path), ([1, "a"], collections.abc.Sequence[int | str]),
    (3, typing.Annotated[int, "m"]),
    (object(), typing.Any), ({"class_path": REAL, "init_args": {"size": 1}}, Part), ("x", Part | str),
    ({"class_path": REAL, "init_args": {"size": 1, "child": REAL_OF_2}}, Part | None),
    ({"size": 1}, Real), (PRODUCT, FACTORY), ({"class_path": PRODUCT, "init_args": {"extra": 1}}, FACTORY | None),
    ("math.exp", collections.abc.Callable[[float], float]),
])
def test_what_is_right(value, hint):
    assert Walk().value(value, hint, "x") == []


@pytest.mark.parametrize("value, hint, path, said", [
    ("a", int, "x", "expected a whole number, found the text 'a'"),
    (1.0, int, "x", "expected a whole number, found 1.0"),
    (True, int, "x", "expected a whole number, found true"),
    (1, bool, "x", "expected true or false, found 1"),
    (1, str, "x", "expected text, found 1; quote it to make it text: '\"1\"'"),
    (True, str, "x", "expected text, found true"),
    (None, int, "x", "expected a whole number, found null"),
    ("b", typing.Literal["aa", 1], "x", "expected one of aa, 1, found the text 'b'"),
    (1.5, int | None, "x", "expected a whole number or null, found 1.5"),
    ([1, "a"], list[int], "x.1", "expected a whole number, found the text 'a'"),
    (3, list[int], "x", "expected a list (a whole number each), found 3"),
    ([1], tuple[int, int], "x", "expected 2 values, found 1"),
    ({"a": "b"}, dict[str, int], "x.a", "expected a whole number, found the text 'b'"),
    ([1], dict[str, int], "x", "expected a mapping, found the list [1]"),
    ([1, None], list[int] | int, "x.1", "expected a whole number, found null"),
    (3, pathlib.Path, "x", "expected a path, found 3"),
    (3, Part, "x", "expected a Part, found 3; there is Real"),
    ({"size": 3}, Part, "x", "Part is abstract, so a class_path must say which one; there is Real"),
    ({"class_path": REAL}, Part, "x.init_args", "Real needs size"),
    ({"class_path": REAL, "init_args": 1}, Part, "x.init_args", "expected the arguments of Real as a mapping, found 1"),
    ({"class_path": 3}, Part, "x.class_path", "expected the name of a class, found 3"),
    ({"class_path": PRODUCT}, Part, "x.class_path", "Product is no Part; there is Real"),
    ({"class_path": REAL, "init_args": {"size": [1]}}, Part | str, "x.init_args.size",
     "expected a whole number, found the list [1]"),
    ({"class_path": PRODUCT, "init_args": {"given": 1}}, FACTORY, "x.init_args.given", "Product has no argument given"),
    ({"class_path": REAL, "init_args": {"size": 1}}, FACTORY, "x.class_path", "Real is no Product"),
    ({"extra": 1}, FACTORY, "x", "expected a class_path of a Product, found a mapping with extra"),
])
def test_what_is_wrong(value, hint, path, said):
    (problem,) = Walk().value(value, hint, "x")
    assert (problem.path, problem.sentence) == (path, said)


def test_everything_that_is_wrong_is_found():
    inner = {"class_path": REAL, "init_args": {"sizes": 1, "size": "a"}}
    problems = Walk().value({"class_path": REAL, "init_args": {"child": inner, "x": 1}}, Part, "p")
    assert [(one.path, one.unknown) for one in problems] == [
        ("p.init_args.child.init_args.sizes", "sizes"), ("p.init_args.child.init_args.size", None),
        ("p.init_args.x", "x"),
        ("p.init_args", None),
    ]


def test_an_argument_that_was_misspelt_is_not_missing_as_well():
    (problem,) = Walk().value({"class_path": REAL, "init_args": {"sise": 1}}, Part, "p")
    assert problem.unknown == "sise"
