"""A process killed by a signal and started again ends where one that was left alone ends, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "kill_and_resume.py"


def test_three_kills_one_of_them_during_a_save(tmp_path):
    """Off-line from Python, and PPO with a critic, a KL that steers itself, a moving reference and replay by its command line."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(TOOL.parents[1])}
    result = subprocess.run(
        [sys.executable, TOOL, "pra", "all", "--kills", "3", "--seed", "1", "--updates", "24", "--every", "5"],
        capture_output=True, text=True, timeout=500, env=environment, check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    for kills in (lines[:3], lines[4:7]):
        assert [kind in line for kind, line in zip(("killed at", "while saving", "interrupted at"), kills, strict=True)] == [True] * 3
