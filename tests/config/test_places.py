"""Where configuration files are found."""

from pathlib import Path

import pytest

from lit_rlhf.config import places

PACKAGE = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["base/cpu", "base/cpu.yaml", "configs/base/cpu.yaml"])
def test_a_name_is_looked_up_in_the_package(name):
    assert places.find(name) == PACKAGE / "base" / "cpu.yaml"


def test_a_file_comes_first_and_then_the_folder_of_the_working_directory():
    Path("configs/base").mkdir(parents=True)
    Path("configs/base/cpu.yaml").touch()
    assert places.find("base/cpu") == Path("configs/base/cpu.yaml")
    Path("base").mkdir()
    Path("base/cpu").touch()
    assert places.find("base/cpu") == Path("base/cpu")


def test_folders_are_no_files():
    Path("dpo").mkdir()
    assert places.find("dpo") == PACKAGE / "dpo.yaml"
    assert places.find("base") is None and places.find("/base/cpu") is None


@pytest.mark.parametrize("name, near", [
    ("base/cpuu", "base/cpu"), ("multi_gpu", "base/multi_gpu"), ("there/mine.yml", "there/mine.yaml"),
])
def test_what_is_not_there_is_answered_with_what_is_near(name, near):
    Path("there").mkdir()
    Path("there/mine.yaml").touch()
    assert places.find(name) is None
    assert near in places.missing(name).partition("near are ")[2].split(", ")
