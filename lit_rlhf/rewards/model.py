"""Rewards by a trained reward model, with its own tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rlhf.components.reward import RewardModel
from lit_rlhf.components.runs import is_run, model_part
from lit_rlhf.data.collation import tokens_of
from lit_rlhf.data.encoding import generation_stops
from lit_rlhf.data.formats import to_record
from lit_rlhf.data.overflow import Limits, fitted
from lit_rlhf.data.records import Group, Record, RowError
from lit_rlhf.data.tokenisation import Tokenisation
from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Part, Response, Reward, Scores
from lit_rlhf.types import Sequences


class ModelReward(Reward):
    """r = scale (s(x, y) - shift), s the score in nats of a `RewardModel`, frozen and outside every checkpoint.

    It is fed text or messages, never the policy's tokens: prompt and completion are written by its own template and
    tokenizer, by the code that writes training data, and end by its own terminator even where the completion was cut.
    A prompt too long for it loses its beginning, which the part `truncated` counts; a completion too long for it has no
    reward (NaN) and is counted too. The completion of a conversation is taken without the white space around it.

    Args:
        model: a run that trained one, a folder, a hub name of a sequence classifier with one label, or a reward model.
        scale: factor of the score.
        shift: what is taken from it.
        chat_template: Jinja, or a file with it; the tokenizer's own where it is None.
        template_arguments: what the template takes besides.
        as_messages: prompts of text become messages, where the model was trained on those.
        max_length: most tokens of prompt and completion; the model's context where it is None.
        max_prompt_length: most tokens of the prompt.
        micro_batch_tokens: most tokens in a forward pass, unless one response alone has more; changes no result.
        name: of its metrics.

    Raises:
        InputError: the source is no reward model, or an argument is out of range.
    """

    def __init__(
        self,
        model: RewardModel | str,
        scale: float = 1.0,
        shift: float = 0.0,
        chat_template: str | None = None,
        template_arguments: dict[str, Any] | None = None,
        as_messages: bool = False,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        micro_batch_tokens: int = 16_384,
        name: str = "model",
    ) -> None:
        self.model = RewardModel(model) if isinstance(model, str) else model
        self.scale, self.shift, self.name = scale, shift, name
        self.as_messages, self.micro_batch_tokens = as_messages, micro_batch_tokens
        self.max_length, self.max_prompt_length = max_length, max_prompt_length
        self._template = (chat_template, template_arguments)
        self._tokenisation: Tokenisation | None = None
        self._device: torch.device | str = "cpu"
        for key, value, least in (
            ("max_length", max_length, 2), ("max_prompt_length", max_prompt_length, 1),
            ("micro_batch_tokens", micro_batch_tokens, 2),
        ):
            if value is not None and value < least:
                raise InputError(f"ModelReward.{key} is {value}, expected {least} or more")

    def check(self) -> None:
        source = self.model.model.source
        if source is not None and is_run(source) and model_part(source) != "reward":
            part = model_part(source)
            raise InputError(f"ModelReward: {source} trained no reward model, but {part}; name a run of bradley_terry")
        self.tokenisation  # noqa: B018 (reads the tokenizer)

    def build(self) -> None:
        self.check()
        with torch.random.fork_rng(devices=[]):
            self.model.build(frozen=True)
        self.model.requires_grad_(False).eval()
        if not self.model.head.weight.any():
            source = self.model.model.source
            raise InputError(f"ModelReward: {source} has no trained head: every response would score 0")

    def to(self, device: torch.device | str) -> None:
        self.model.to(device)
        self._device = device

    @property
    def tokenisation(self) -> Tokenisation:
        """How it reads text."""
        if self._tokenisation is None:
            tokenizer = self.model.tokenizer
            self._tokenisation = Tokenisation(tokenizer, *self._template, generation_stops(tokenizer))
        return self._tokenisation

    @property
    def limits(self) -> Limits:
        """What it can read."""
        bounds = (self.max_length, self.model.model.origin.context, self.model.tokenizer.model_max_length)
        longest = min(bound for bound in bounds if bound is not None)
        return Limits(longest, self.max_prompt_length, "truncate_prompt_left")

    @torch.no_grad()
    def __call__(self, responses: Sequence[Response]) -> Scores:
        groups, truncated = self._groups(responses)
        total = torch.full((len(responses),), torch.nan)
        for places in self._batches([0 if group is None else tokens_of(group) for group in groups]):
            scores = self.model.score(_sequences([groups[place] for place in places]).to(self._device))
            total[torch.tensor(places)] = self.scale * (scores.float().cpu() - self.shift)
        return Scores(total, (Part("truncated", truncated),))

    def _groups(self, responses: Sequence[Response]) -> tuple[list[Group | None], Tensor]:
        """Each response in its tokens, None where it does not fit; [S] 1 where its prompt was cut or it does not."""
        found = self.tokenisation([self._record(response) for response in responses])
        limits, bos, groups, cut = self.limits, self.model.tokenizer.bos_token_id, [], []
        for response, tokenised in zip(responses, found, strict=True):
            if isinstance(tokenised, RowError):
                raise InputError(f"ModelReward: {response.record.row}: {tokenised}")
            fit = fitted(tokenised.group, limits, bos)
            groups.append(fit.group)
            cut.append(float(bool(fit.why)))
        return groups, torch.tensor(cut)

    def _record(self, response: Response) -> Record:
        """The response as a row of a file would be read."""
        text = response.text if isinstance(response.record.prompt, str) else response.text.strip()
        row = {"prompt": response.record.prompt, "completion": text}
        return to_record(row, "completion", response.record.row, self.as_messages)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of those that have tokens, the longest first, at most `micro_batch_tokens` with what pads them."""
        batch: list[int] = []
        order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
        for place in (place for place in order if lengths[place]):
            if batch and (len(batch) + 1) * lengths[batch[0]] > self.micro_batch_tokens:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch


def _sequences(groups: Sequence[Group]) -> Sequences:
    """Groups of one completion each."""
    prompts, completions = [group.prompt_ids for group in groups], [group.completions[0] for group in groups]
    return Sequences(
        torch.from_numpy(np.concatenate(prompts)).long(), torch.tensor([len(ids) for ids in prompts]),
        torch.from_numpy(np.concatenate(completions)).long(), torch.tensor([len(ids) for ids in completions]),
        torch.arange(len(groups)),
    )
