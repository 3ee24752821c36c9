"""The page of algorithms: its commands compose, its files are there."""

import re
import shlex

import pytest
from configurations import CONFIGS

PAGE = (CONFIGS / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command, monkeypatch):
    from lit_rlhf.cli import build

    monkeypatch.chdir(CONFIGS.parent)
    python, module, name, fit, *arguments = shlex.split(command)
    assert (python, module, name, fit) == ("python", "-m", "lit_rlhf", "fit")
    algorithm, data = build(arguments)
    assert algorithm.needs
    assert data.batch_size


def test_links_to_files_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", PAGE) if not link.startswith("http")]
    assert links
    assert all((CONFIGS / link).exists() for link in links)


def test_every_file_has_a_section_that_runs_it():
    named = set(re.findall(r"--config configs/(\w+)\.yaml", PAGE))
    assert named == {path.stem for path in CONFIGS.glob("*.yaml")}
