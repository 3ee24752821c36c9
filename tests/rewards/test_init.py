"""Names of the package, imported when they are asked for."""

import subprocess
import sys

import pytest

import lit_rlhf.rewards


def test_every_name_is_there_and_no_other():
    assert all(getattr(lit_rlhf.rewards, name).__name__ == name for name in lit_rlhf.rewards.__all__)
    with pytest.raises(AttributeError, match="has no attribute Functions"):
        lit_rlhf.rewards.Functions  # noqa: B018


def test_a_worker_imports_neither_torch_nor_lightning():
    told = "import sys, lit_rlhf.rewards.worker; print({'torch', 'lightning'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout.strip() == "set()"
