"""`predict` writes one line per completion, in the order of the data, each exactly once."""

from __future__ import annotations

import json

import pytest
import torch
from callbacks.heads import Pairwise
from lightning import LightningDataModule, Trainer
from support import Bigram, FrozenBigram, preferences
from torch.utils.data import DataLoader

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.callbacks.predictions import PredictionWriter, _merge
from lit_rlhf.callbacks.progress import ProgressBar, _short


class Data(LightningDataModule):
    """Two items; the second has a repeat that does not count. Rows are given out of order, as ranks share them."""

    items = (
        (preferences(0, prompts=2), preferences(1, prompts=1)),
        (preferences(2, prompts=1), preferences(3, prompts=1)),
    )
    names = (((("f:2", "f:3")), ("f:1",)), (("f:4",), ()))

    def predict_dataloader(self):
        return DataLoader(self.items, batch_size=None, collate_fn=lambda item: item)

    def rows(self, position, split):
        assert split == "predict"
        return sorted(row for part in self.names[position] for row in part)

    def rows_of_rank(self, position, split):
        return self.names[position]


def test_lines_are_in_the_order_of_the_data_without_repeats(tmp_path, capsys):
    module = Algorithm(Bigram(), Pairwise(), FrozenBigram())
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
                      enable_model_summary=False, callbacks=[PredictionWriter(tmp_path)])
    trainer.predict(module, Data(), return_predictions=False)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    found = [(line["row"], line["completion"]) for line in lines]
    assert found == [(f"f:{row}", number) for row in (1, 2, 3, 4) for number in (0, 1)]
    batch = Data.items[0][0]
    lengths = batch.sequences.completion_lengths.tolist()
    logps = Bigram().token_logps(batch.sequences).values.detach().split(lengths)
    reference = FrozenBigram().token_logps(batch.sequences).split(lengths)
    for line, own, other, length in zip(lines[2:6], logps, reference, lengths, strict=True):
        assert line["log_prob"] == pytest.approx(float(own.sum()), rel=1e-5)
        assert line["reference_log_prob"] == pytest.approx(float(other.sum()), rel=1e-5)
        assert line["token_log_probs"] == pytest.approx(own.tolist()) and line["length"] == length
    assert "8 completions" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]


def test_the_lines_of_ranks_are_put_in_order(tmp_path):
    parts = [tmp_path / "0", tmp_path / "1"]
    parts[0].write_text("".join(json.dumps([key, {"row": key[0] * 10 + key[1]}]) + "\n" for key in ([0, 1], [1, 0])))
    parts[1].write_text("".join(json.dumps([key, {"row": key[0] * 10 + key[1]}]) + "\n" for key in ([0, 0], [1, 1])))
    assert _merge(parts, tmp_path / "out") == 4
    assert [json.loads(line)["row"] for line in (tmp_path / "out").read_text().splitlines()] == [0, 1, 10, 11]


def test_the_bar_is_silent_without_a_terminal_and_short_with_one():
    bar = ProgressBar()
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[bar], enable_checkpointing=False)
    bar.setup(trainer, torch.nn.Identity(), "fit")
    assert bar.is_disabled
    trainer.progress_bar_metrics.update({"train/loss": 0.123456, "val/preference_accuracy": 0.5})
    assert bar.get_metrics(trainer, None) == {"loss": "0.1235", "val preference accuracy": "0.5"}
    assert _short("perf/tokens_per_second") == "tokens per second"
