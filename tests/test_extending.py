"""What `lit_rlhf/README.md` shows is run as it stands: a user's own parts, in a bare loop and on the command line."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from losses.given import PROMPT_OF, evidence, log_ratios, scored, total
from tokens import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from lit_rlhf.cli import build, main
from lit_rlhf.errors import InputError
from lit_rlhf.types import ScoredBatch

PAGE = Path(__file__).parents[1] / "lit_rlhf" / "README.md"


def shown() -> dict[str, str]:
    """File name -> text of the blocks of the page that name a file in their first line."""
    return dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with the files of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in shown().items():
        Path(name).write_text(text, encoding="utf-8")
    yield tmp_path
    for name in shown():
        sys.modules.pop(Path(name).stem, None)


def fitted(algorithm, data, steps=2):
    """Trained for a few updates, quietly."""
    from lightning import Trainer

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=steps, use_distributed_sampler=False, **quiet)
    trainer.fit(algorithm, datamodule=data)
    return trainer


def test_every_file_of_the_page_is_there(folder):
    assert list(shown()) == [
        "my_heads.py", "loop.py", "my_algorithms.py", "ranking.yaml", "my_online.py", "praise.yaml", "my_parts.py", "stars.yaml",
    ]


def test_the_head_is_its_equation(folder):
    from my_heads import PlackettLuce

    seen, batch = evidence(), scored()
    s, reward = [0.3 * ratio for ratio in log_ratios(seen)], batch.reward.tolist()
    expected = 0.0
    for k in range(9):
        rivals = [j for j in range(9) if PROMPT_OF[j] == PROMPT_OF[k] and reward[j] <= reward[k]]
        expected += batch.weight[k].item() * (math.log(sum(math.exp(s[j]) for j in rivals)) - s[k])
    assert total(PlackettLuce(0.3), seen, batch) == pytest.approx(expected)
    with pytest.raises(InputError, match="PlackettLuce compares.*two or more"):
        PlackettLuce()(seen, scored(weight=batch.weight.index_fill(0, torch.tensor([1, 3]), 0.0)))


def test_the_head_in_a_bare_loop_learns(folder):
    space: dict = {}
    exec(compile(Path("loop.py").read_text(encoding="utf-8"), "loop.py", "exec"), space)
    losses = space["losses"]
    assert len(losses) == 20
    assert losses[0] == pytest.approx(
        math.log(math.factorial(4)) / 4, rel=0.1
    )  # equal scores: every ranking is as likely
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_head_in_a_configuration_of_the_package(folder):
    (line,) = (
        row for row in PAGE.read_text(encoding="utf-8").splitlines() if "--model.loss=my_heads.PlackettLuce" in row
    )
    algorithm, data = build([*shlex.split(line)[4:], "--data.size=64", "--data.val_size=8"])
    assert (type(algorithm.loss).__name__, algorithm.loss.tau) == ("PlackettLuce", 0.3)
    before = algorithm.reference
    trainer = fitted(algorithm, data, steps=1)
    assert trainer.global_step == 1 and algorithm.reference is before is not None


def test_the_head_explains_itself(folder, capsys):
    (line,) = (row for row in PAGE.read_text(encoding="utf-8").splitlines() if "--model.loss.help" in row)
    assert main(shlex.split(line)[3:]) == 0
    assert "the likelihood of a whole ranking" in capsys.readouterr().out


def test_the_algorithm_and_its_metric(folder):
    algorithm, data = build(["--config", "ranking.yaml", "--data.size=128", "--data.val_size=16"])
    assert (type(algorithm).__name__, algorithm.loss.tau, data.size) == ("Ranking", 0.5, 128)
    assert [metric.name for metric in algorithm.metrics] == ["best_of_group"]
    fitted(algorithm, data)
    assert 0 <= float(algorithm.metrics[0].compute()) <= 1


def test_the_metric_is_the_share_of_best_responses(folder):
    from my_parts import BestOfGroup

    batch, seen = scored(), evidence()
    metric = BestOfGroup(tau=0.5)
    metric.update(seen, batch)
    ratio, reward = log_ratios(seen), batch.reward.tolist()
    groups = [[k for k in range(9) if PROMPT_OF[k] == prompt] for prompt in range(4)]
    right = sum(max(own, key=lambda k: ratio[k]) == max(own, key=lambda k: reward[k]) for own in groups)
    assert float(metric.compute()) == right / 4


def test_columns_and_rewards_of_a_file(folder):
    rows = [
        {"question": f"{n}?", "answers": [{"text": " yes", "stars": 5}, {"text": " no", "stars": 1 + n % 3}]}
        for n in range(6)
    ]
    Path("answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = byte_tokenizer()
    words.save_pretrained("model")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=64, **shape)).save_pretrained("model")
    algorithm, data = build(["--config", "ranking.yaml", "--config", "stars.yaml", "--model.actor.model=model"])
    trainer = fitted(algorithm, data, steps=1)
    (batch,) = next(iter(data.train_dataloader()))
    assert isinstance(batch, ScoredBatch) and trainer.global_step == 1
    stars = sorted([5.0] * 6 + [1.0 + n % 3 for n in range(6)])
    assert sorted(batch.reward.tolist()) == [(value - 3) / 2 for value in stars]


def test_a_reward_and_a_credit_step_on_the_policys_own_samples(folder):
    algorithm, data = build(["--config", "praise.yaml", "--data.batch_size=4", "--data.val_size=8"])
    assert algorithm.reward.words == ("great", "kind")
    seen = []
    update = algorithm.update
    algorithm.update = lambda micro_batches: seen.append(micro_batches) or update(micro_batches)
    trainer = fitted(algorithm, data)
    assert trainer.global_step == len(seen) == 2
    for rollout in (batch for item in seen for batch in item):
        reward, kept, owner = rollout.reward, rollout.sequence_weight > 0, rollout.sequences.prompt_of
        for prompt in range(len(rollout.sequences.prompt_lengths)):
            mine = (owner == prompt).nonzero()[:, 0].tolist()
            middle = sorted(reward[row].item() for row in mine)[(len(mine) - 1) // 2]
            assert [kept[row].item() for row in mine] == [reward[row].item() >= middle for row in mine]
