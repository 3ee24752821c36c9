"""Sample tables: fixed prompts, on disk and in TensorBoard, with what is known of each completion."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from callbacks.heads import Pairwise
from lightning import LightningDataModule
from lightning.pytorch.loggers import TensorBoardLogger
from support import FrozenBigram, fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.callbacks.run_record import RunRecord
from lit_rlhf.callbacks.tables import Sample, SampleTable, markdown
from lit_rlhf.components.actor import Actor
from lit_rlhf.types import PreferenceBatch, Sequences

PROMPTS = [[1, 5], [0, 3, 5]]  # "film was", "the room was"


def pairs():
    return PreferenceBatch(
        Sequences(torch.tensor([1, 5, 0, 3, 5]), torch.tensor([2, 3]), torch.tensor([9, 16, 10, 16, 9, 16, 11, 16]),
                  torch.tensor([2, 2, 2, 2]), torch.tensor([0, 0, 1, 1])),
        torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([1.0, 1.0]),
    )


class Data(LightningDataModule):
    """Two prompts, whose reward is the length of the completion."""

    max_completion_tokens = 3

    def train_dataloader(self):
        return DataLoader([(pairs(),)] * 4, batch_size=None, collate_fn=lambda item: item)

    def val_dataloader(self):
        return DataLoader([(pairs(),)], batch_size=None, collate_fn=lambda item: item)

    def sample_prompts(self, n):
        return tuple(SimpleNamespace(prompt_ids=np.array(prompt)) for prompt in PROMPTS[:n])

    def reward_of(self, prompt, completion):
        return float(len(completion))


class Half(FrozenBigram):
    """Every token has probability one half under the reference."""

    def token_logps(self, sequences):
        return torch.full((len(sequences.completion_ids),), 0.5).log()


def fast(groups):
    return torch.optim.SGD(groups, lr=0.5)


def run(folder, table, **settings):
    logger = TensorBoardLogger(folder.parent, name=folder.name, version="")
    module = Algorithm(Actor("lit_rlhf/reviews"), Pairwise(), Half())
    usual = {"val_check_interval": 2, "num_sanity_val_steps": 1}
    fit(module, Data(), callbacks=[RunRecord(folder), table], logger=logger, **usual | settings)
    logger.finalize("success")
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return module, rows


def test_rows_at_the_start_and_with_every_validation(tmp_path):
    module, rows = run(tmp_path / "x", SampleTable(tmp_path / "x"))
    assert [row["step"] for row in rows] == [0, 0, 2, 2, 4, 4]
    assert [row["prompt"] for row in rows] == ["film was", "the room was"] * 3
    for row in rows:
        assert 1 <= row["length"] <= 3 and row["reward"] == row["length"]
        assert row["stop"] == ("finished" if row["completion"].endswith("<eos>") else "cut")
        assert row["log_ratio"] == pytest.approx(row["log_prob"] - row["length"] * np.log(0.5), rel=1e-4)
    assert float(module.trainer.callback_metrics["val/sampled_length"]) == np.mean([row["length"] for row in rows[-2:]])


def test_log_probs_are_the_policys(tmp_path):
    module, rows = run(tmp_path / "x", SampleTable(tmp_path / "x", prompts=1))
    ids = torch.tensor([PROMPTS[0] + module.tokenizer.convert_tokens_to_ids(rows[-1]["completion"].split())])
    with torch.no_grad():
        logps = module.actor.model.net.eval()(ids).logits[0].log_softmax(-1)
    expected = sum(float(logps[place - 1, ids[0, place]]) for place in range(len(PROMPTS[0]), ids.shape[1]))
    assert rows[-1]["log_prob"] == pytest.approx(expected, abs=1e-4)


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint(tmp_path):
    table = SampleTable(tmp_path)
    table.setup(None, None, "fit")
    table._write([{"step": step} for step in (0, 2, 4, 6)])
    trainer = SimpleNamespace(is_global_zero=True, fast_dev_run=False, global_step=4)
    table.on_train_start(trainer, None)
    assert [row["step"] for row in table._rows()] == [0, 2, 4]


def test_tables_change_no_weight(tmp_path):
    with_table, _ = run(tmp_path / "x", SampleTable(tmp_path / "x", temperature=1.0))
    without = Algorithm(Actor("lit_rlhf/reviews"), Pairwise(), Half())
    fit(without, Data(), val_check_interval=2, num_sanity_val_steps=1)
    assert all(map(torch.equal, with_table.parameters(), without.parameters()))


def test_the_page_and_the_description_of_the_run(tmp_path):
    run(tmp_path / "x", SampleTable(tmp_path / "x"))
    assert "val/samples/text_summary" in EventAccumulator(str(tmp_path / "x")).Reload().Tags()["tensors"]
    assert {"config.json", "tokenizer.json"} <= {path.name for path in (tmp_path / "x" / "parts" / "actor").iterdir()}
    environment = json.loads((tmp_path / "x" / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__ and environment["device"] == "cpu"


def test_a_run_directory_is_a_model_again(tmp_path):
    from lit_rlhf.callbacks.checkpointing import RunCheckpoint

    module = Algorithm(Actor("lit_rlhf/reviews"), Pairwise(), optimizer=fast)
    checkpoint = RunCheckpoint(tmp_path / "checkpoints", monitor=None)
    fit(module, Data(), callbacks=[RunRecord(tmp_path), checkpoint], enable_checkpointing=True)
    again = Actor(str(tmp_path))
    again.build()
    assert all(map(torch.equal, again.parameters(), module.actor.parameters()))


def test_cells_do_not_break_the_table():
    sample = Sample(0, "a|b\nc", "d", 1, "finished", log_prob=-1.5)
    lines = markdown([sample]).splitlines()
    assert len(lines) == 3 and lines[2] == "| a\\|b<br>c | d | 1 | finished |  | -1.500 |  |"


def test_validating_after_training_keeps_the_reference_of_the_start(tmp_path):
    from lit_rlhf.components.reference import FrozenCopy

    module = Algorithm(Actor("lit_rlhf/reviews"), Pairwise(), FrozenCopy(), optimizer=fast)
    trainer = fit(module, Data())
    trainer.validate(module, Data(), verbose=False)
    sequences = pairs().sequences
    with torch.no_grad():
        assert not torch.equal(module.reference.token_logps(sequences), module.actor.token_logps(sequences).values)
