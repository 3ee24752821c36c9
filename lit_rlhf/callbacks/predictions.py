"""`predict` to JSON lines: what the models say of every completion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_rlhf.algorithms.validation import Predictions
from lit_rlhf.callbacks.files import replacing, run_directory


class PredictionWriter(Callback):
    """Writes `predictions.jsonl`: one line per completion, in the order of the data.

    `row` is where its prompt comes from, `completion` its number within the prompt; `log_prob`, `reference_log_prob`
    (nats, over the trained tokens), `score` and `token_log_probs` are there where a part gives them. Repeats that do
    not count are left out.

    Args:
        run_dir: the directory of the run; the logger's when None.
    """

    def __init__(self, run_dir: str | Path | None = None) -> None:
        self.run_dir = run_dir

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.file = run_directory(self.run_dir, trainer) / "predictions.jsonl"

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._part(trainer.global_rank).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part(trainer.global_rank), "w", encoding="utf-8")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Sequence[Predictions], batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        data, decode = trainer.datamodule, None if pl_module.tokenizer is None else pl_module.tokenizer.decode
        order = {row: place for place, row in enumerate(data.rows(batch_idx, "predict"))}
        for part, rows in zip(outputs, data.rows_of_rank(batch_idx, "predict"), strict=True):
            for line in lines(part, rows, decode) if rows else ():
                self._file.write(json.dumps([[batch_idx, order[line["row"]]], line], ensure_ascii=False) + "\n")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._file.close()
        trainer.strategy.barrier("predictions")
        if trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            print(f"{_merge(parts, self.file)} completions in {self.file}")

    def _part(self, rank: int) -> Path:
        return self.file.with_name(f".predictions.{rank}.jsonl")


def lines(part: Predictions, rows: Sequence[str], decode: Any = None) -> Iterator[dict[str, Any]]:
    """One dictionary per completion; `rows` name its prompts, by index."""
    part = part.to("cpu")
    sequences = part.sequences
    prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
    completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
    tokens = None if part.token_log_probs is None else part.token_log_probs.split(sequences.completion_lengths.tolist())
    seen: dict[int, int] = {}
    for index, (prompt, ids) in enumerate(zip(sequences.prompt_of.tolist(), completions, strict=True)):
        seen[prompt] = seen.get(prompt, -1) + 1
        line = {"row": rows[prompt], "completion": seen[prompt], "length": len(ids)}
        if decode is not None:
            line |= {"prompt_text": decode(prompts[prompt].tolist()), "completion_text": decode(ids.tolist())}
        for name in ("log_prob", "reference_log_prob", "score"):
            if (values := getattr(part, name)) is not None:
                line[name] = float(values[index])
        if tokens is not None:
            line["token_log_probs"] = tokens[index].tolist()
        yield line


def _merge(parts: Sequence[Path], target: Path) -> int:
    """The ranks' lines in the order of the data."""
    found = [json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    with replacing(target) as file:
        for _, line in sorted(found, key=lambda entry: entry[0]):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    for part in parts:
        part.unlink()
    return len(found)
