"""The arguments after a command."""

import pytest

from lit_rlhf.config.arguments import split
from lit_rlhf.config.mistakes import Mistakes


def test_both_forms_are_the_same_and_the_order_stays():
    mistakes = Mistakes()
    words = ["--a=1", "--config", "x", "--b.c", "-1", "--config=y", "-c", "z", "--d+=e=f", "--g", "1 2"]
    files, overrides = split(words, mistakes)
    assert files == ["x", "y", "z"] and not mistakes.lines
    assert [override.text for override in overrides] == ["--a=1", "--b.c=-1", "--d+=e=f", "--g=1 2"]


@pytest.mark.parametrize("words, starts", [
    (["word"], ["'word': "]),
    (["-x", "1"], ["-x: ", "'1': "]),
    (["--a"], ["--a: has no value"]),
    (["--a", "--b=1"], ["--a: has no value"]),
    (["--a="], ["--a: has no value"]),
    (["--config"], ["--config: has no value"]),
    (["--=1"], ["--=1: "]),
    (["--a..b=1"], ["--a..b=1: "]),
])
def test_malformed_arguments_are_told(words, starts):
    mistakes = Mistakes()
    split(words, mistakes)
    assert len(mistakes.lines) == len(starts) and all(map(str.startswith, mistakes.lines, starts))
