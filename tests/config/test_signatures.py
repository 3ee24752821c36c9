"""Signatures, through `super().__init__(**kwargs)`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from lit_rlhf.config.signatures import signature_of

if TYPE_CHECKING:
    from nowhere import Unknown


class Base:
    def __init__(self, first: int, second: str = "a", third: float = 0.5) -> None: ...


class Passes(Base):
    def __init__(self, own: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)


class Names(Base):
    def __init__(self, own: int, **kwargs) -> None:
        super().__init__(first=own, **kwargs)


class Places(Base):
    def __init__(self, own: int, **kwargs) -> None:
        super().__init__(own, **kwargs)


class Through(Passes):
    def __init__(self, last: int = 0, **kwargs) -> None:
        super().__init__(own=False, **kwargs)


class Looks(Base):
    def __init__(self, **kwargs) -> None:
        kwargs.pop("secret", None)
        super().__init__(**kwargs)


class Keeps:
    def __init__(self, own: int = 0, **kwargs) -> None:
        self.kwargs = kwargs


class Silent(Base):
    pass


class Empty:
    pass


class Made:
    def __new__(cls, anything): ...


class Partly:
    def __init__(self, known: int, unknown: Unknown) -> None: ...


@dataclasses.dataclass(frozen=True)
class Data:
    x: int
    y: str | None = None


@dataclasses.dataclass(frozen=True)
class MoreData(Data):
    z: float = 1.0


def function(a: int, *, b: str = "x"): ...


@pytest.mark.parametrize("target, names, is_open", [
    (Base, ["first", "second", "third"], False),
    (Passes, ["own", "first", "second", "third"], False),
    (Names, ["own", "second", "third"], False),
    (Places, ["own", "second", "third"], False),
    (Through, ["last", "first", "second", "third"], False),
    (Silent, ["first", "second", "third"], False),
    (Looks, [], True),
    (Keeps, ["own"], True),
    (Empty, [], False),
    (Made, [], True),
    (MoreData, ["x", "y", "z"], False),
    (function, ["a", "b"], False),
])
def test_names(target, names, is_open):
    signature = signature_of(target)
    assert list(signature.arguments) == names and signature.open == is_open


def test_types_defaults_and_what_is_needed():
    arguments = signature_of(Passes).arguments
    assert arguments["first"].hint is int and arguments["first"].required and not arguments["second"].required
    assert signature_of(MoreData).arguments["y"].hint == str | None
    assert list(signature_of(Base).without(1).arguments) == ["second", "third"]


def test_a_type_that_cannot_be_evaluated_is_any_and_the_others_stay():
    arguments = signature_of(Partly).arguments
    assert arguments["known"].hint is int and arguments["unknown"].hint is Any


def test_arguments_resolved_through_parents_are_those_of_jsonargparse():
    from jsonargparse import ArgumentParser

    for target in (Base, Passes, Names, Places, Through, Silent, MoreData):
        parser = ArgumentParser()
        added = parser.add_class_arguments(target, "x")
        assert [name.removeprefix("x.") for name in added] == list(signature_of(target).arguments)
