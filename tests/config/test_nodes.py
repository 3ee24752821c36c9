"""How one node is laid over another; the rules together are in test_compose."""

import pytest

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.nodes import Merger, Node, is_class_name, same_class
from lit_rlhf.config.versions import Aliases


def node(value, place="a.yaml:1"):
    if isinstance(value, dict):
        return Node({key: node(one, place) for key, one in value.items()}, place)
    return Node([node(one, place) for one in value] if isinstance(value, list) else value, place)


def laid(old, new, place="b.yaml:1"):
    mistakes = Mistakes()
    merger = Merger(mistakes, Aliases())
    return merger.over(merger.over(None, node(old)), node(new, place)).plain(), mistakes.lines


@pytest.mark.parametrize("text, is_one", [
    ("RDA", True), ("a.b.RDA", True), ("my_heads.head", True), ("gpt2", False), ("runs/x", False),
    ("bf16-mixed", False), ("a.json", True),
    ("", False), (3, False), (None, False),
])
def test_names_of_classes(text, is_one):
    assert is_class_name(text) == is_one


@pytest.mark.parametrize("one, other, same", [
    ("PRA", "a.PRA", True), ("a.PRA", "a.PRA", True), ("a.PRA", "b.PRA", False), ("PRA", "RDA", False),
    (None, None, False),
])
def test_a_class_is_the_same_without_its_module(one, other, same):
    assert same_class(one, other) == same


def test_a_mapping_takes_the_place_of_a_scalar_in_a_file_but_not_on_the_command_line():
    assert laid({"a": 3}, {"a": {"b": 1}}) == ({"a": {"b": 1}}, [])
    _, lines = laid({"a": 3}, {"a": {"b": 1}}, "--a.b=1")
    assert lines == ["--a.b=1: a is 3 (a.yaml:1) and has nothing below it, so no b"]


def test_what_replaces_a_null_needs_no_class():
    assert laid({"a": None}, {"a": {"b": 1}}, "--a.b=1") == ({"a": {"b": 1}}, [])


def test_a_new_class_drops_the_old_arguments_and_the_same_keeps_them():
    old = {"a": {"class_path": "m.A", "x": 1, "dict_kwargs": {"z": 1}}}
    assert laid(old, {"a": {"class_path": "m.B", "y": 2}})[0]["a"] == {"class_path": "m.B", "init_args": {"y": 2}}
    kept = {"class_path": "A", "dict_kwargs": {"z": 1}, "init_args": {"x": 1, "y": 2}}
    assert laid(old, {"a": {"class_path": "A", "y": 2}})[0]["a"] == kept


def test_classes_within_lists_are_written_short_too():
    assert laid({}, {"a": [{"class_path": "A", "x": [{"class_path": "B", "y": 1}]}]})[0]["a"] == [
        {"class_path": "A", "init_args": {"x": [{"class_path": "B", "init_args": {"y": 1}}]}}
    ]


def test_an_index_that_is_not_there_and_a_key_of_a_list_are_told():
    for key in ("2", "x"):
        _, lines = laid({"a": [1, 2]}, {"a": {key: 1}}, f"--a.{key}=1")
        assert len(lines) == 1 and "a list of 2" in lines[0]


def test_appending_to_what_is_no_list_is_told():
    _, lines = laid({"a": {"b": 1}}, {"a": {"b+": 2}})
    assert lines == ["b.yaml:1: a.b: a.b is no list (a.yaml:1), so b+ cannot append to it"]


def test_nothing_that_is_laid_over_is_changed():
    old, new = node({"a": {"class_path": "A", "b": [1]}}), node({"a": {"b+": 2, "c": 1}})
    before = old.plain(), new.plain()
    Merger(Mistakes(), Aliases()).over(old, new)
    assert (old.plain(), new.plain()) == before


def test_a_model_by_name_is_told_how_it_gets_arguments():
    _, lines = laid({"a": {"model": "x/y"}}, {"a": {"model": {"lora": "LoRA"}}}, "--a.model.lora=LoRA")
    assert lines == [
        "--a.model.lora=LoRA: a.model is 'x/y' (a.yaml:1) and has nothing below it, so no lora; "
        "write --a.model=LanguageModel --a.model.source=x/y before it"
    ]
