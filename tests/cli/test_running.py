"""What happens before Lightning is needed."""

from pathlib import Path

import pytest
import yaml

from lit_rlhf.cli import main
from lit_rlhf.cli.running import given


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_printed_configuration_is_one_that_composes_to_itself(capsys):
    assert main(["fit", "--print_config", "--model.loss.tau=3", "--run=a/b"]) == 0
    first = capsys.readouterr().out
    tree = yaml.safe_load(first)
    assert tree["run"] == "a/b" and tree["trainer"]["max_steps"] == 300
    assert tree["model"]["init_args"]["loss"]["init_args"]["tau"] == 3
    Path("own.yaml").write_text(first)
    assert main(["fit", "--config=own.yaml", "--print_config"]) == 0
    assert capsys.readouterr().out == first and not Path("runs").exists()


def test_the_quick_start_says_what_it_is_and_other_configurations_do_not(capsys):
    for words, said in ((["--run=../x"], True), (["--run=../x", "--config=own.yaml"], False)):
        Path("own.yaml").write_text("model: {class_path: Algorithm}\n")
        assert main(["fit", *words]) == 2
        assert ("quick start" in capsys.readouterr().out) is said


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--run=a"], "a"), (["--run", "a"], "a"), (["--run=a", "--run", "b"], "b"), (["--running=a"], None),
        (["--run"], None), ([], None),
    ],
)
def test_the_last_value_of_an_argument_counts(words, value):
    assert given(words, "run") == value
