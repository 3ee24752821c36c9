"""A process killed with SIGKILL and started again ends where one that was left alone ends, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "kill_and_resume.py"


def test_three_kills_one_of_them_during_a_save(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(TOOL.parents[1])}
    result = subprocess.run(
        [sys.executable, TOOL, "--kills", "3", "--seed", "1", "--updates", "24", "--every", "5"],
        capture_output=True, text=True, timeout=300, env=environment, check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert sum(" killed " in line for line in lines) == 3 and "while saving" in lines[1]
