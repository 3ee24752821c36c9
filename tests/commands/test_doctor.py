"""What the doctor says of a machine."""

import socket
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from lit_rlhf.cli import main
from lit_rlhf.commands import doctor
from lit_rlhf.commands.doctor import Package


def test_it_names_versions_devices_and_the_precision_and_opens_no_connection(capsys, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("a connection"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: pytest.fail("a name was looked up"))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"torch {torch.__version__}" in shown and "precision: " in shown and "cpu: " in shown
    assert all(heading in shown for heading in ("packages:", "devices:", "optional:", "hub:"))


def test_the_packages_are_those_of_the_metadata():
    needed = {package.wanted.name for package in doctor.needed_packages()}
    assert {"torch", "lightning", "transformers", "datasets", "peft"} <= needed
    extras = {package.wanted.name: package.extra for package in doctor.optional_packages()}
    assert extras["trl"] == "bench" and extras["vllm"] == "vllm" and extras["flash-attn"] is None
    assert not needed & extras.keys()


@pytest.mark.parametrize(
    ("version", "fits", "text"),
    [("1.5", True, "x 1.5"), ("2.0.dev1+cpu", True, "x 2.0.dev1+cpu"), ("0.9", False, "x 0.9, expected >=1.0: do this"),
     (None, False, "x missing: do this")],
)
def test_a_package_that_is_missing_or_too_old_comes_with_the_command(version, fits, text):
    package = Package(Requirement("x>=1.0"), version)
    assert package.fits is fits and package.text("do this") == text


def test_a_package_that_is_needed_and_missing_is_a_failure(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "needed_packages", lambda: (Package(Requirement("torchh>=2"), None),))
    assert main(["doctor"]) == 1
    assert "torchh missing: pip install 'torchh>=2'" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_a_hub_that_is_switched_off_is_named_with_its_switch(value):
    said = doctor.hub({"HF_DATASETS_OFFLINE": value, "HF_HUB_OFFLINE": "0"})
    assert said.startswith("off-line by HF_DATASETS_OFFLINE:")
    assert "HF_HUB_OFFLINE=1 forbids it" in doctor.hub({})


def test_gpus_are_named_with_their_memory(monkeypatch):
    gpu = SimpleNamespace(name="GPU of a test", total_memory=80 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    assert "gpu 0: GPU of a test, 80 GiB, compute capability 9.0" in list(doctor.devices())


def test_an_argument_is_refused(capsys):
    assert main(["doctor", "everything"]) == 2
    assert "unrecognized arguments: everything" in capsys.readouterr().err
