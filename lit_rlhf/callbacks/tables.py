"""What the policy answers to the same prompts over time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lit_rlhf.algorithms.collection import as_responses, as_rollout
from lit_rlhf.callbacks import tensorboard
from lit_rlhf.callbacks.files import replacing, run_directory
from lit_rlhf.callbacks.logging import publish
from lit_rlhf.components.modes import evaluating
from lit_rlhf.data.records import Group
from lit_rlhf.sampling.native import NativeSampler
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import PromptRecord, Prompts, Samples, ScoredBatch, Sequences


@dataclass(frozen=True)
class Sample:
    """One completion of one prompt at one step."""

    step: int
    prompt: str
    completion: str
    length: int
    """In tokens, the stop token included."""
    stop: str
    """`finished` by a stop token, or `cut` at the greatest length."""
    log_prob: float | None = None
    """Of the completion under the policy, in nats."""
    log_ratio: float | None = None
    """log(pi/u), in nats; of completions sampled at temperature 1 its mean estimates KL(pi || u)."""
    reward: float | None = None
    """From the algorithm's reward, the data module's `reward_of`, or the reward model in training."""
    parts: dict[str, float] = field(default_factory=dict)
    """Of that reward, by name."""


class SampleTable(Callback):
    """Completes fixed validation prompts at the start and with every validation.

    The table goes to TensorBoard, the rows to `samples.jsonl`, and the mean length to `val/sampled_length`. A reward
    model in training scores the data's own completions instead.

    Args:
        run_dir: the directory of the run; the logger's when None.
        prompts: how many.
        max_new_tokens: completions are cut there (or at the data module's `max_completion_tokens`, where that is less).
        temperature: 0 takes the likeliest token, 1 samples from the policy.
        seed: of the draws, the same every time.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        prompts: int = 8,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.run_dir = run_dir
        self.prompts, self.max_new_tokens, self.temperature, self.seed = prompts, max_new_tokens, temperature, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.file = run_directory(self.run_dir, trainer) / "samples.jsonl"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:
            self._write([row for row in self._rows() if row["step"] <= trainer.global_step and trainer.global_step])
        if not trainer.global_step:
            self._sample(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._sample(trainer, pl_module)

    def _sample(self, trainer: Trainer, module: Any) -> None:
        if not self.prompts or trainer.fast_dev_run or not hasattr(trainer.datamodule, "sample_prompts"):
            return
        groups = trainer.datamodule.sample_prompts(self.prompts)
        if getattr(module, "trains", "actor") == "reward":
            samples = _scored(trainer.global_step, module, groups)
        else:
            samples = self._sampled(trainer.global_step, module, trainer.datamodule, groups)
            length = sum(sample.length for sample in samples) / max(1, len(samples))
            publish(trainer, {"val/sampled_length": length}, trainer.global_step)
        tensorboard.text(trainer, "val/samples", markdown(samples), trainer.global_step)
        if trainer.is_global_zero:
            self._write([*self._rows(), *map(asdict, samples)])

    def _sampled(self, step: int, module: Any, data: Any, groups: Sequence[Group]) -> list[Sample]:
        """Completions by the policy; `data` may know a reward and a greatest length, and one that samples brings its own."""
        decode, prompts = module.tokenizer.decode, as_prompts(groups, module.tokenizer)
        sampler = module.val_sampler if module.samples else self._sampler(data)
        samples = sampler.sample(module.actor.model, prompts.to(module.device), 1, draw=0).to("cpu")
        lengths = samples.sequences.completion_lengths.tolist()
        ids = [row.tolist() for row in samples.sequences.completion_ids.split(lengths)]
        logps, ratios = _log_probs(module, samples.sequences)
        rewards, parts = _rewards(module, data, prompts, samples)
        return [
            Sample(
                step, decode(group.prompt_ids.tolist()), decode(row), len(row), "finished" if ended else "cut",
                logp, ratio, reward, own,
            )
            for group, row, ended, logp, ratio, reward, own in zip(
                groups, ids, samples.finished.tolist(), logps, ratios, rewards, parts, strict=True
            )
        ]

    def _sampler(self, data: Any) -> NativeSampler:
        most = min(self.max_new_tokens, getattr(data, "max_completion_tokens", self.max_new_tokens))
        return NativeSampler(most, self.temperature, seed=self.seed)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        with replacing(self.file) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_prompts(groups: Sequence[Group], tokenizer: Any) -> Prompts:
    """The prompts of groups; where no record came with one, its text is that of its tokens."""
    ids = [torch.as_tensor(np.array(group.prompt_ids), dtype=torch.long) for group in groups]
    records = tuple(
        getattr(group, "record", None) or PromptRecord(tokenizer.decode(row.tolist())) for group, row in zip(groups, ids, strict=True)
    )
    lengths = torch.tensor([len(row) for row in ids])
    return Prompts(torch.cat(ids), lengths, records, torch.arange(len(ids)), torch.ones(len(ids)))


def _rewards(
    module: Any, data: Any, prompts: Prompts, samples: Samples
) -> tuple[list[float | None], list[dict[str, float]]]:
    """Of every completion, and the parts each is made of."""
    if module.samples:
        rollout = as_rollout(samples, prompts)
        scores = module.reward(as_responses(rollout, prompts, StopSet.of(module.actor.model, module.val_sampler.stop)))
        parts = [{part.name: float(part.values[row]) for part in scores.parts} for row in range(len(scores.total))]
        return [_number(value) for value in scores.total.tolist()], parts
    reward_of = getattr(data, "reward_of", lambda prompt, completion: None)
    sequences = samples.sequences
    pairs = zip(
        sequences.prompt_ids.split(sequences.prompt_lengths.tolist()),
        sequences.completion_ids.split(sequences.completion_lengths.tolist()), strict=True,
    )
    rewards = [reward_of(prompt.numpy(), completion.numpy()) for prompt, completion in pairs]
    return rewards, [{} for _ in rewards]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def markdown(samples: Sequence[Sample]) -> str:
    """The samples as a table, one line each."""
    head = "| prompt | completion | length | stop | reward | log-prob | log-ratio |\n|---|---|---|---|---|---|---|"
    return "\n".join([head, *("| " + " | ".join(_cells(sample)) + " |" for sample in samples)])


def _cells(sample: Sample) -> list[str]:
    numbers = (sample.reward, sample.log_prob, sample.log_ratio)
    known = ["" if number is None else f"{number:.3f}" for number in numbers]
    if len(sample.parts) > 1:
        known[0] += " = " + ", ".join(f"{name} {value:.3f}" for name, value in sample.parts.items())
    return [_cell(sample.prompt), _cell(sample.completion), str(sample.length), sample.stop, *known]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>").replace("\r", "")


@torch.no_grad()
def _log_probs(module: Any, sequences: Sequences) -> tuple[list[float], list[float | None]]:
    """Of every completion, under the policy and against the reference."""
    sequences = sequences.to(module.device)
    lengths = sequences.completion_lengths.tolist()
    with evaluating(module.actor):
        policy = module.actor.token_logps(sequences).values
    sums = [float(part.sum()) for part in policy.split(lengths)]
    if module.reference is None:
        return sums, [None] * len(lengths)
    ratio = policy - module.reference.token_logps(sequences)
    return sums, [float(part.sum()) for part in ratio.split(lengths)]


@torch.no_grad()
def _scored(step: int, module: Any, groups: Sequence[Group]) -> list[Sample]:
    """The data's completions with the scores of the reward model."""
    sequences = _sequences([group.prompt_ids for group in groups], [group.completions for group in groups])
    batch = ScoredBatch(sequences, torch.zeros(len(sequences.completion_lengths))).to(module.device)
    with evaluating(module.reward):
        scores = module.evidence(batch).score.tolist()
    decode = module.tokenizer.decode
    completions = [(group.prompt_ids, ids) for group in groups for ids in group.completions]
    return [
        Sample(step, decode(prompt.tolist()), decode(ids.tolist()), len(ids), "given", reward=score)
        for (prompt, ids), score in zip(completions, scores, strict=True)
    ]


def _sequences(prompts: Sequence[Any], completions: Sequence[Sequence[Any]]) -> Sequences:
    """Prompts with the completions of each."""

    def joined(rows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        return torch.cat([torch.as_tensor(np.array(row)) for row in rows]), torch.tensor([len(row) for row in rows])

    owner = torch.repeat_interleave(torch.tensor([len(rows) for rows in completions]))
    return Sequences(*joined(prompts), *joined([row for rows in completions for row in rows]), owner)
