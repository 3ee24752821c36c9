"""All processes of a run work on the run that the first one chose."""

from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from lit_rlhf.cli import agreement
from lit_rlhf.cli.agreement import VARIABLE, agreed
from lit_rlhf.cli.runs import Request, Run
from lit_rlhf.errors import InputError

NAMED, UNNAMED = (Request("fit", (), name, (Path("dpo.yaml"),), None) for name in ("mine", None))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


def test_a_run_as_text_and_back():
    run = Run("a/b", Path("x/last.ckpt"), "b")
    assert agreement.read(agreement.written(run)) == run


def test_a_process_that_the_first_one_starts_takes_its_run(monkeypatch):
    first = agreed(UNNAMED)
    monkeypatch.setenv("LOCAL_RANK", "1")
    second = agreed(UNNAMED)
    assert first.name == second.name == "dpo" and not Path("runs/dpo-2").exists()


def test_processes_of_torchrun_learn_the_run_from_its_store(monkeypatch):
    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(agent.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in (address | {"WORLD_SIZE": "2", "RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    first = agreed(UNNAMED)
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("RANK", "1")
    assert agreed(UNNAMED).name == first.name == "dpo"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_other_launchers_need_a_name_and_then_agree(rank, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", rank)
    with pytest.raises(InputError, match="--run=dpo"):
        agreed(UNNAMED)
    assert agreed(NAMED).name == "mine"
