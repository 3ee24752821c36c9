"""Interpolations, all mistakes at once."""

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.nodes import Node
from lit_rlhf.config.resolving import resolved


def node(value):
    if isinstance(value, dict):
        return Node({key: node(one) for key, one in value.items()}, "c.yaml:1")
    return Node([node(one) for one in value] if isinstance(value, list) else value, "c.yaml:1")


def read(tree):
    mistakes = Mistakes()
    return resolved(node(tree), mistakes), mistakes.lines


def test_values_text_parts_and_lists_are_put_in():
    tree, lines = read({
        "vars": {"n": 3, "part": {"class_path": "A", "init_args": {"x": "${vars.n}"}}, "list": [1, "${vars.n}"]},
        "a": "${vars.n}", "b": "runs/${vars.n}", "c": "${vars.part}", "d": ["${vars.list}"],
        "e": {"f": "${.g}", "g": 5}, "h": r"\${x}",
    })
    assert not lines
    assert tree["a"] == 3 and tree["b"] == "runs/3" and tree["c"] == {"class_path": "A", "init_args": {"x": 3}}
    assert tree["d"] == [[1, 3]] and tree["e"] == {"f": 5, "g": 5} and tree["h"] == "${x}"


def test_every_interpolation_that_fails_is_told(monkeypatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    _, lines = read({
        "vars": {"rate": 1}, "a": "${vars.rat}", "b": {"init_args": {"c": "${oc.env:NOT_THERE}"}}, "d": ["${open"],
        "e": "???",
        "f": "${nothing:1}", "g": "${b.c}",
    })
    assert lines[0].startswith("c.yaml:1: d.0: wrong interpolation: ")
    assert lines[1:4] == [
        "c.yaml:1: a: ${vars.rat}: there is no vars.rat; did you mean vars.rate?",
        "c.yaml:1: b.c: ${oc.env:NOT_THERE}: Environment variable 'NOT_THERE' not found",
        "c.yaml:1: e: ??? must be replaced by a value",
    ]
    assert lines[4].startswith("c.yaml:1: f: ${nothing:1}: ")
    assert lines[5:] == ["c.yaml:1: g: ${b.c}: there is no b.c; write b.init_args.c"]
