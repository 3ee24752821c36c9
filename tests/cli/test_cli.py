"""The table of commands, and what is answered before anything heavy is imported."""

import subprocess
import sys

import pytest

import lit_rlhf
from lit_rlhf import cli

FAST = """
import sys
from lit_rlhf.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "lightning", "transformers", "numpy"} & set(sys.modules)
print(heavy or "light")
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--help"], 0), (["fit", "--model.loss.tau=1", "--config", "no_such"], 2)],
    ids=lambda words: " ".join(words) if isinstance(words, list) else str(words),
)
def test_help_and_mistakes_of_the_first_stage_import_nothing_heavy(words, code, tmp_path):
    command = [sys.executable, "-c", FAST, *words]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == code, result.stderr
    assert result.stdout.splitlines()[-1] == "light"


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_names_every_command_with_its_line(words, capsys):
    assert cli.main(words or ["help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and command.line in shown for name, command in cli.COMMANDS.items())


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lit_rlhf {lit_rlhf.__version__}\n"


@pytest.mark.parametrize(("name", "answer"), [("fitt", "did you mean fit?"), ("q", "there is fit, validate")])
def test_an_unknown_command_is_answered_in_one_line_with_the_nearest(name, answer, capsys):
    assert cli.main([name]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and name in shown.err and answer in shown.err


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if not command.own_help])
def test_help_of_a_command_names_its_options_only(name, capsys):
    assert cli.main([name, "--config", "no_such", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--config FILE" in shown and "--model.loss.help" in shown
    assert ("--check" in shown) == (name == "fit") and ("--ckpt_path" in shown) == (name != "data")


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if command.own_help])
def test_commands_with_options_of_their_own_explain_them(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"python -m lit_rlhf {name}" in capsys.readouterr().out


def test_build_gives_the_parts_of_a_composition_without_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from lit_rlhf.cli.running import QUICKSTART

    algorithm, data = cli.build(["--config", str(QUICKSTART), "--model.loss.tau=0.25", "--data.batch_size", "3"])
    assert algorithm.loss.tau == 0.25 and data.batch_size == 3 and not list(algorithm.parameters())
    assert not list(tmp_path.iterdir())
