"""The command line as a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from lit_rlhf.cli import main

ROOT = Path(__file__).parents[2]
FROM_WHEEL = """
import runpy, sys
import lit_rlhf
assert lit_rlhf.__file__.startswith(sys.path[1]), lit_rlhf.__file__
sys.argv = ["lit_rlhf", "fit"]
runpy.run_module("lit_rlhf", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """An unpacked wheel, made of a copy of the sources."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("lit_rlhf", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    made = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(next((source / "dist").glob("*.whl"))) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_has_every_module_and_every_file(wheel):
    def files(folder, *patterns):
        found = {path.relative_to(folder) for pattern in patterns for path in folder.rglob(pattern)}
        return {path for path in found if "pictures" not in path.parts}  # pages show them, and nothing reads them

    patterns = ("*.py", "*.yaml", "*.json", "*.safetensors", "README.md")
    assert files(wheel / "lit_rlhf", *patterns) >= files(ROOT / "lit_rlhf", *patterns)
    assert files(wheel / "lit_rlhf" / "configs", "*.yaml") == files(ROOT / "configs", "*.yaml")


def test_the_quick_start_from_a_wheel_in_an_empty_directory_is_silent_but_for_its_own_lines(wheel, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FROM_WHEEL]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    summary = json.loads((tmp_path / "runs/quickstart/summary.json").read_text())
    assert set(summary) == {
        "reward_before", "reward_after", "reward_optimum", "kl_to_target_before", "kl_to_target_after",
    }
    assert summary["kl_to_target_after"] < summary["kl_to_target_before"] / 100
    assert summary["reward_before"] < summary["reward_after"] <= summary["reward_optimum"] + 0.05
    lines = run.stdout.splitlines()
    assert lines[0].startswith("The quick start") and lines[1] == "run: runs/quickstart"
    for said in ("tensorboard --logdir runs", "KL to the target, nats", "train: 32768 rows, 32768 kept", "precision: "):
        assert said in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_ctrl_c_is_130_with_a_checkpoint_from_which_the_same_command_continues(tmp_path, monkeypatch, capsys):
    words = [
        "fit", "--run=mine", "--trainer.callbacks=[]", "--trainer.val_check_interval=500", "--model.schedule=null",
        "--data.val_size=8",
    ]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "lit_rlhf", *words, "--trainer.max_steps=1000000"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    for line in process.stdout:  # the last check of the first item: training has begun
        if line.startswith("  reference: "):
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "runs/mine/checkpoints/last.ckpt is kept; the same command with --ckpt_path last continues from it" in said
    monkeypatch.chdir(tmp_path)
    last = Path("runs/mine/checkpoints/last.ckpt")
    steps = torch.load(last, weights_only=True)["global_step"]
    assert main([*words, f"--trainer.max_steps={steps + 1}", "--ckpt_path", "last"]) == 0
    assert torch.load(last, weights_only=True)["global_step"] == steps + 1
    assert "run: runs/mine, from runs/mine/checkpoints/last.ckpt" in capsys.readouterr().out


def test_two_processes_work_on_one_run_and_one_of_them_speaks(tmp_path):
    words = [
        "fit", "--trainer.callbacks=[]", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.size=64",
        "--data.val_size=8", "--data.batch_size=8", "--trainer.devices=2", "--trainer.strategy=ddp",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "lit_rlhf", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0 and run.stderr == "", run.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quickstart"]
    lines = [line for line in run.stdout.splitlines() if "completion: " not in line and "sample:" not in line]
    once = ("run: ", "precision: ", "data: ", "actor: ", "tensorboard ", "2 updates")
    spoken = [line for line in lines if line.startswith(once)]
    assert len(spoken) == len(set(spoken)) == 6, spoken
    assert json.loads((tmp_path / "runs/quickstart/environment.json").read_text())["processes"] == 2
