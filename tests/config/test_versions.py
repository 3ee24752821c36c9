"""Renamed arguments and moved classes, for one release."""

import pytest

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.nodes import Merger, Node
from lit_rlhf.config.versions import Aliases, Change

MOVED = {"old.place.PRA": Change("new.place.PRA", since=2)}
RENAMED = {"new.place.PRA": {"strength": Change("tau", since=2)}}


def node(value, version, place="c.yaml:1"):
    if isinstance(value, dict):
        return Node({key: node(one, version, place) for key, one in value.items()}, place, version)
    return Node(value, place, version)


def read(value, version, over=None):
    aliases = Aliases(MOVED, RENAMED)
    merger = Merger(Mistakes(), aliases)
    old = None if over is None else merger.over(None, node(over, version))
    return merger.over(old, node(value, version)).plain(), aliases.warnings


@pytest.mark.parametrize("written", [
    {"class_path": "old.place.PRA", "strength": 1},
    {"class_path": "old.place.PRA", "init_args": {"strength": 1}},
    {"class_path": "new.place.PRA", "strength": 1},
])
def test_old_names_are_read_in_older_files_with_a_line_each(written):
    tree, warnings = read(written, version=1)
    assert tree == {"class_path": "new.place.PRA", "init_args": {"tau": 1}}
    assert len(warnings) == 1 + ("old" in written["class_path"])
    assert warnings[-1] == "c.yaml:1: strength is called tau since version 2; the old name is read for one release"


def test_a_short_name_of_the_class_is_enough():
    assert read({"class_path": "PRA", "strength": 1}, version=1)[0] == {"class_path": "PRA", "init_args": {"tau": 1}}


def test_the_class_may_be_named_by_another_file():
    tree, warnings = read({"strength": 2}, version=1, over={"class_path": "new.place.PRA", "tau": 1})
    assert tree["init_args"] == {"tau": 2} and len(warnings) == 1


def test_in_a_file_of_the_present_version_an_old_name_is_an_unknown_one():
    written = {"class_path": "old.place.PRA", "init_args": {"strength": 1}}
    assert read(written, version=2) == (written, [])


def test_other_classes_keep_their_arguments():
    written = {"class_path": "other.RDA", "init_args": {"strength": 1}}
    assert read(written, version=1) == (written, [])
