"""Classes by name."""

from abc import ABC, abstractmethod

import pytest

from lit_rlhf.config.classes import NoSuchClass, known, offered, resolve


class Part(ABC):
    @abstractmethod
    def do(self): ...


class Concrete(Part):
    def do(self): ...


class Other(Part):
    def do(self): ...


class Holder:
    class Other(Part):
        def do(self): ...

    class Within(Concrete): ...


def said(name, bases=(Part,)):
    with pytest.raises(NoSuchClass) as refused:
        resolve(name, bases)
    return str(refused.value)


def test_a_short_name_is_looked_up_among_the_subclasses():
    assert resolve("Concrete", (Part,)) is Concrete and resolve("Within", (Part,)) is Holder.Within
    assert resolve("Part", (Part,)) is Part
    assert known((Part,)) == [Part, Concrete, Holder.Within, Other, Holder.Other]
    assert offered((Part,)) == [Concrete, Holder.Within, Other, Holder.Other]


def test_a_dotted_path_is_imported_also_within_a_class():
    assert resolve("collections.OrderedDict", (Part,)).__name__ == "OrderedDict"
    assert resolve("lit_rlhf.config.names.nearest", ()).__name__ == "nearest"
    assert resolve("collections.OrderedDict.fromkeys", ()).__name__ == "fromkeys"


def test_a_name_that_several_have_is_ambiguous():
    assert said("Other") == f"Other is ambiguous; write one of {__name__}.Other, {__name__}.Holder.Other"


def test_what_is_not_there_is_answered_with_what_is_near():
    assert said("Concret").endswith("did you mean Concrete?")
    assert said("nowhere.Concrete") == f"there is no module nowhere; did you mean {__name__}.Concrete?"
    assert said("lit_rlhf.not.X.Concrete") == f"there is no module lit_rlhf.not; did you mean {__name__}.Concrete?"
    assert said("collections.OrderdDict", ()) == "collections has no OrderdDict; did you mean collections.OrderedDict?"


def test_classes_of_functions_cannot_be_named():
    class Local(Concrete): ...

    assert Local not in known((Part,))
