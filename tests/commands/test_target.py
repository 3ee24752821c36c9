"""What a composition converges to, as a command."""

import json

import pytest

from lit_rlhf import cli
from lit_rlhf.commands.target import asked, usage
from lit_rlhf.errors import InputError

HEAD = '''
from dataclasses import dataclass

from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import completion_rewards, ends


@dataclass(frozen=True)
class Mine(LossHead):
    """Squares of margins less reward gaps."""

    scale: float = 1.0
    family = "RDA"
    needs = frozenset({"policy", "reward_gap", "chosen"})
    unit = "pair"

    def __call__(self, evidence, batch):
        chosen, rejected = ends(completion_rewards(evidence, batch, 2.0), batch)
        error = (chosen - rejected - batch.reward_gap).square()
        return LossOutput((Term("mine", self.scale * (batch.pair_weight * error).sum(), "pair"),))
'''
SHORT = "--seconds=20"


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """Exit code, folder and text of the answer for DPO at another temperature."""
    import contextlib
    import io

    folder, said = tmp_path_factory.mktemp("target") / "dpo", io.StringIO()
    with contextlib.redirect_stdout(said):
        code = cli.main(["target", "--config", "dpo", "--tau=0.5", "--seconds=100", f"--out={folder}"])
    return code, folder, said.getvalue()


def test_the_answer_names_target_end_rate_and_changes(answer):
    code, _, text = answer
    assert code == 0
    for part in (
        "family PRA, posterior form", "tau = 0.5", "Where training ends: at pi^tau = u e^(r/tau) / Z, tau = 0.5",
        "3 starts end at the same", "predicted 1 - lambda_2/lambda_max", "tau 0.25 (half): at u e^(r/tau) / Z",
        "hard labels: no finite minimiser", "pairs in two parts that never meet: ", "it is not identified",
        "another pair law: at u e^(r/tau) / Z",
    ):
        assert part in text, part


def test_the_files_are_text_numbers_and_a_picture(answer):
    _, folder, text = answer
    found = json.loads((folder / "target.json").read_text())
    assert found["is_target"] and found["unique"] and found["tau"] == 0.5 and found["form"] == "posterior"
    assert sum(found["law"]) == pytest.approx(1) and found["distance"][-1] < 1e-10
    assert (folder / "target.txt").read_text().strip() in text
    assert (folder / "target.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1 and not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tau=0"], "--tau=0: expected a positive number"),
        (["--tau=-1"], "--tau=-1: expected a positive number"),
        (["--tau=warm"], "--tau=warm: expected a number"),
        (["--model.loss.tau=0"], "tau"),
        (["--policy=soft"], "--policy=soft: expected response or token"),
        (["--labels=loud"], "--labels=loud: expected soft, sampled or hard"),
        (["--model.loss=Reinforce"], "which only sampled rollouts have"),
    ],
)
def test_what_is_wrong_is_refused(words, said, capsys):
    assert cli.main(["target", "--config", "dpo", *words]) == 2
    assert said in capsys.readouterr().err


def test_data_without_what_the_head_reads_are_refused(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b", "label": True}) + "\n")
    words = ["--data=Files", f"--data.train={path}", f"--data.cache_dir={tmp_path / 'cache'}"]
    assert cli.main(["target", "--config", "dpo", *words]) == 2
    assert "the format is unpaired" in capsys.readouterr().err


def test_a_head_of_a_users_own_needs_no_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_head.py").write_text(HEAD)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--model.loss=my_head.Mine", SHORT, f"--out={tmp_path / 'out'}"]
    assert cli.main(["target", "--config", "rda", *words]) == 0
    assert "log(pi/u) = 0.5 r + constant" in capsys.readouterr().out


def test_own_options_are_told_from_those_of_the_configuration():
    own, others = asked(["--config", "dpo", "--tau", "0.3", "--data.seed=2", "--seed=4"])
    assert own == {"tau": 0.3, "seed": 4} and others == ["--config", "dpo", "--data.seed=2"]
    with pytest.raises(InputError, match="expected a number"):
        asked(["--tau"])


def test_the_help_lists_every_option():
    assert all(option in usage() for option in ("--config", "--tau", "--labels", "--seed", "--scale", "--out"))
