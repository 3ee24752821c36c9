"""Exit codes, and what is said."""

import os
import subprocess
import sys

import pytest

from lit_rlhf.cli.endings import cause, ending
from lit_rlhf.config import ConfigErrors
from lit_rlhf.errors import InputError, RunFailed


def raising(error):
    def run():
        raise error

    return run


def wrapped(inner):
    try:
        try:
            raise inner
        except Exception as error:
            raise RuntimeError("around it") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a.b: one sentence"), 2, "a.b: one sentence\n"),
        (wrapped(InputError("inside")), 2, "inside\n"),
        (ConfigErrors(["first", "second"]), 2, "first\nsecond\n"),
        (RunFailed("out of memory"), 1, "out of memory\n"),
        (SystemExit(143), 143, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("a sentence"), 1, "a sentence\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=repr,
)
def test_known_ends_have_their_code_and_their_sentence_alone(error, code, said, capsys):
    assert ending(raising(error)) == code
    assert capsys.readouterr().err == said


def test_an_unknown_failure_keeps_its_traceback(capsys):
    assert ending(raising(KeyError("odd"))) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith("KeyError: 'odd'\n")


def test_what_is_done_is_0(capsys):
    assert ending(lambda: print("done")) == 0
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ({"RANK": "3", "LOCAL_RANK": "3"}, ""), ({"LOCAL_RANK": "1"}, ""),
        ({"RANK": "8", "LOCAL_RANK": "0"}, "rank 8: wrong\n"),
    ],
    ids=str,
)
def test_a_mistake_is_told_once_per_machine(ranks, said, monkeypatch, capsys):
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    assert ending(raising(InputError("wrong"))) == 2
    assert capsys.readouterr().err == said


def test_a_failure_of_one_process_is_told_by_it(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ending(raising(RunFailed("no memory"))) == 1
    assert capsys.readouterr().err == "rank 1: no memory\n"


def test_the_first_of_a_kind_is_found_along_the_causes():
    inner = InputError("x")
    assert cause(wrapped(inner), InputError) is inner and cause(inner, RunFailed) is None


def test_a_reader_that_leaves_early_sees_no_traceback():
    code = "import sys; from lit_rlhf.cli.endings import ending; sys.exit(ending(lambda: print('x' * 1_000_000)))"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert process.returncode == 1 and process.stderr == ""
