"""One measuring process of `rollout.py`: `rollout_side.py FOLDER OUT SIDE`."""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measured import peak_mib
from torch import Tensor

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.sampling.hf import HFSampler
from lit_rlhf.sampling.native import NativeSampler
from lit_rlhf.types import PromptRecord, Prompts, Sequences


@dataclass(frozen=True)
class Task:
    """N random prompts of equal length, K completions of each, all cut at the greatest length."""

    prompts: int
    group_size: int
    prompt_tokens: int
    new_tokens: int
    vocabulary: int
    rollouts: int
    """Measured ones; one more goes before."""

    @property
    def tokens(self) -> int:
        """T of one rollout."""
        return self.prompts * self.group_size * self.new_tokens

    @classmethod
    def load(cls, folder: Path) -> Task:
        return cls(**json.loads((folder / "task.json").read_text()))

    def save(self, folder: Path) -> None:
        (folder / "task.json").write_text(json.dumps(asdict(self)))

    def draw(self) -> Prompts:
        """The prompts; two ids at the end of the vocabulary are special."""
        generator = torch.Generator().manual_seed(7)
        ids = torch.randint(self.vocabulary - 2, (self.prompts * self.prompt_tokens,), generator=generator)
        lengths, index = torch.full((self.prompts,), self.prompt_tokens), torch.arange(self.prompts)
        return Prompts(ids, lengths, (PromptRecord(""),) * self.prompts, index, torch.ones(self.prompts))


@dataclass(frozen=True)
class Rollouts:
    """What one process measured."""

    tokens: int
    """Of all measured rollouts."""
    seconds: float
    """Wall time of them."""
    processor_seconds: float
    mean_logp: float
    """Mean log-prob in nats of all tokens, recomputed afterwards by one forward of the policy: of what law they are."""
    loaded_mib: float
    """Resident memory once all weights were read and one token was made."""
    peak_mib: float
    """Peak resident memory until the last rollout."""

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Rollouts:
        return cls(**json.loads(path.read_text()))


def by(sampler: NativeSampler | HFSampler) -> Callable[[LanguageModel, Task, int], list[Tensor]]:
    """Completions by a sampler of ours, which gives log-probs besides."""

    def rollout(policy: LanguageModel, task: Task, draw: int) -> list[Tensor]:
        sampler.max_new_tokens = task.new_tokens
        found = sampler.sample(policy, task.draw(), task.group_size, draw).sequences
        return list(found.completion_ids.split(found.completion_lengths.tolist()))

    return rollout


@torch.no_grad()
def by_generate(policy: LanguageModel, task: Task, draw: int) -> list[Tensor]:
    """Completions by `generate` with its own sampling, which gives no log-probs."""
    from transformers import GenerationConfig

    torch.manual_seed(draw)
    ids = task.draw().prompt_ids.view(task.prompts, task.prompt_tokens)
    settings = GenerationConfig(
        do_sample=True, top_k=0, top_p=1.0, max_new_tokens=task.new_tokens, num_return_sequences=task.group_size,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    policy.net.eval()
    rows = policy.net.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return list(rows[:, ids.shape[1] :])


SIDES: dict[str, Callable[[LanguageModel, Task, int], list[Tensor]]] = {
    "native": by(NativeSampler()),
    "hf": by(HFSampler()),
    "generate": by_generate,
}


def measure(policy: LanguageModel, task: Task, side: str) -> Rollouts:
    """One rollout unmeasured, then the others."""
    rollout = SIDES[side]
    rollout(policy, dataclasses.replace(task, prompts=1, group_size=1, new_tokens=1), 0)
    sum(float(weight.detach().sum()) for weight in policy.parameters())  # weights of a file take no memory before they are read
    loaded = resident_mib()
    rollout(policy, task, 0)
    start, processor = time.perf_counter(), time.process_time()
    rows = [row for draw in range(task.rollouts) for row in rollout(policy, task, 1 + draw)]
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = peak_mib()  # before the log-probs are recomputed
    return Rollouts(sum(map(len, rows)), seconds, processor, _mean_logp(policy, task, rows), loaded, peak)


@torch.no_grad()
def _mean_logp(policy: LanguageModel, task: Task, rows: list[Tensor]) -> float:
    given, total = task.draw(), 0.0
    owner = torch.arange(task.prompts).repeat_interleave(task.group_size)
    for start in range(0, len(rows), len(owner)):
        part = rows[start : start + len(owner)]
        lengths = torch.tensor([len(row) for row in part])
        sequences = Sequences(given.prompt_ids, given.prompt_lengths, torch.cat(part), lengths, owner)
        total += float(policy.token_logps(sequences).values.double().sum())
    return total / sum(map(len, rows))


def resident_mib() -> float:
    """Resident memory of this process now, in MiB; its peak so far where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except FileNotFoundError:
        return peak_mib()


def main(folder: Path, out: Path, side: str) -> None:
    warnings.simplefilter("ignore")
    policy = LanguageModel(str(folder))
    policy.build(frozen=True)
    policy.tokenizer.eos_token = policy.generation_config.eos_token_id = None  # nothing ends before the greatest length
    measure(policy, Task.load(folder), side).save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
