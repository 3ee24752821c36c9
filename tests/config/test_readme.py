"""The page of this folder: its example runs, its answers are the ones that are given."""

import re
from pathlib import Path

import pytest

import lit_rlhf.config
from lit_rlhf.config import ConfigErrors, check, compose

PAGE = (Path(lit_rlhf.config.__file__).parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_from_python_runs():
    (code,) = blocks("python")
    *lines, last = code.strip().splitlines()
    scope = {}
    exec("\n".join(lines), scope)
    assert eval(last, scope) == (0.2, "--model.loss.tau=0.2")


def test_mistakes_read_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, shown = blocks("")
    Path("mine.yaml").write_text("\n" * 4 + "model:\n  loss:\n    beta: 0.2\n")
    composed = compose(["--config", "dpo", "--config", "mine.yaml", "--trainer.max_step=500"])
    with pytest.raises(ConfigErrors) as refused:
        check(composed)
    assert sorted(refused.value.lines) == sorted(shown.strip().splitlines())


def test_the_command_shown_composes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("trainer: {max_steps: 3}")
    command, _ = blocks("")
    composed = compose(command.split()[4:])
    assert composed.tree["trainer"]["max_steps"] == 500 and composed.tree["trainer"]["accelerator"] == "gpu"
