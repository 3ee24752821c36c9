"""`Files`, the data module for a user's files and for hub data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rlhf.data.columns import check_columns
from lit_rlhf.data.designs import Named, PairDesign, PairTable
from lit_rlhf.data.encoding import StopSet, generation_stops
from lit_rlhf.data.formats import FORMATS, Format
from lit_rlhf.data.gathering import (
    Gathered,
    Recipe,
    gather,
    held_out_rows,
    kept_rows,
    refuse,
    split_report,
    training_rows,
)
from lit_rlhf.data.overflow import Limits, Overflow, refuse_for_prompts
from lit_rlhf.data.planner import SPLITS, PlannedData, Split
from lit_rlhf.data.preparation import Preparation, Reading, Turns
from lit_rlhf.data.report import DataReport, SplitReport, sample_text
from lit_rlhf.data.rewards import RewardStep
from lit_rlhf.data.signals import ALONE, Labels, Pairs, Rules
from lit_rlhf.data.sources import Source, tables
from lit_rlhf.data.stored import StoredGroups, column, outcome_table
from lit_rlhf.data.streams import Flow, StreamedGroups
from lit_rlhf.data.tokenisation import Tokenisation
from lit_rlhf.errors import InputError

Sources = str | Source | list[str | Source]
"""A file, a pattern, a folder or a hub data set; several make a mixture."""
_NAMED = 50
"""Wrong rows that the report names."""
_HEAD = 1000
"""Rows of a stream that the report is of."""


class Files(PlannedData):
    """Rows of files or hub data sets in any of the formats of this folder's README.

    Which batch they become follows from what the loss reads: pairs, rewards, labels or demonstrations.

    Args:
        train: rows to train on.
        validation: rows to validate on; instead of a share of the training rows.
        test: rows for `test` and `predict` (which takes the validation rows where there are none).
        split: share of the training rows' prompts that is held out for validation.
        fold: which share: 0, 1, ... are disjoint, so that split 0.2 with fold 0 to 4 is five-fold cross-validation.
        split_seed: of the choice of prompts, apart from `seed`, so that other orders keep the same validation rows.
        format: the layout of the rows; detected by their columns where it is None.
        columns: the formats' names to your own, `{prompt: question, completion: "choices[0].text"}`; null hides one.
        as_messages: text becomes messages, which the chat template then writes: a prompt the user's, a completion the
            assistant's, a transcript its turns.
        turns: which turns of the assistant are trained in `messages`: all, or the last.
        reward_transform: steps done to every reward, in order (`Logit`, `Clip`, `Scale`, or your own).
        source_clip: the ends of the file's own scale of rewards; pairs with both ends there are left out and counted.
        pairs: which pairs of K scored responses: all, best_worst, or adjacent in the order of reward.
        labels: of those pairs: soft, probability = sigma(reward gap); hard, 1 (1/2 where rewards are equal).
        label_above: responses with a reward above it are desirable, where the loss reads labels and rows have rewards.
        max_length: most tokens of a prompt and one completion, also one that is yet to be sampled; the tokenizer's
            `model_max_length` where it is None.
        max_prompt_length: most tokens of a prompt.
        overflow: what to do with longer rows: error, drop, truncate_prompt_left or truncate_completion_right.
        tolerate: share of rows that may be wrong; they are left out and named in the report.
        tokenizer: a hub name or folder; the model's own where it is None.
        chat_template: Jinja, or a file with it; the tokenizer's own where it is None.
        template_arguments: what the chat template takes besides (`enable_thinking`, `date_string`, ...).
        streaming: read training rows as they are needed, without storing them.
        shuffle_buffer: rows of a stream that are shuffled together.
        cache_dir: where `datasets` stores what it read and what was tokenised; its own folder where it is None.
        batch_size: prompts in an optimizer step, over all ranks, each with all its completions and pairs.
        micro_batch_tokens: most tokens in a micro-batch, a prompt counted once; changes no result.
        seed: of the order of the rows, and of the choice that a mixture repeats.
        num_workers: processes that make items; any number gives the same items.
        design: what training pairs weigh: uniform, inverse_variance, sampler, or a `PairDesign`.

    Raises:
        InputError: an argument is out of range. In `setup`: rows are missing, wrong or too long, or lack what the loss
            reads.
    """

    def __init__(
        self,
        train: Sources,
        validation: Sources | None = None,
        test: Sources | None = None,
        split: float = 0.0,
        fold: int = 0,
        split_seed: int = 0,
        format: Format | None = None,
        columns: dict[str, str | None] | None = None,
        as_messages: bool = False,
        turns: Turns = "all",
        reward_transform: list[RewardStep] | None = None,
        source_clip: tuple[float, float] | None = None,
        pairs: Pairs = "all",
        labels: Labels = "soft",
        label_above: float | None = None,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        overflow: Overflow = "error",
        tolerate: float = 0.0,
        tokenizer: str | None = None,
        chat_template: str | None = None,
        template_arguments: dict[str, Any] | None = None,
        streaming: bool = False,
        shuffle_buffer: int = 10_000,
        cache_dir: str | None = None,
        batch_size: int = 64,
        micro_batch_tokens: int = 16_384,
        seed: int = 0,
        num_workers: int = 0,
        design: PairDesign | Named = "uniform",
    ) -> None:
        super().__init__(batch_size, micro_batch_tokens, seed, num_workers, design)
        self.sources = {"train": _listed(train), "val": _listed(validation), "test": _listed(test)}
        self.split, self.fold, self.split_seed = split, fold, split_seed
        self.format, self.columns, self.as_messages, self.turns = format, dict(columns or {}), as_messages, turns
        clip = None if source_clip is None else (float(source_clip[0]), float(source_clip[1]))
        self.rules = Rules(tuple(reward_transform or ()), clip, pairs, labels, label_above)
        self.max_length, self.max_prompt_length, self.overflow = max_length, max_prompt_length, overflow
        self.tolerate, self.tokenizer_source = tolerate, tokenizer
        self.chat_template, self.template_arguments = chat_template, dict(template_arguments or {})
        self.streaming, self.shuffle_buffer, self.cache_dir = streaming, shuffle_buffer, cache_dir
        self._gathered: dict[str, Gathered] = {}
        self._reports: dict[str, SplitReport] = {}
        self._wrong: dict[str, tuple[str, ...]] = {}
        self._recipe: Recipe | None = None
        self._check()

    def _check(self) -> None:
        folds = max(round(1 / self.split), 1) if 0 < self.split < 1 else 1
        check_columns(self.columns)
        for name, wrong, expected in (
            ("train", not self.sources["train"], "a file, a folder or a hub data set"),
            ("split", not 0 <= self.split < 1, "a share from 0 to 1, without 1"),
            ("fold", not 0 <= self.fold < folds, f"0 to {folds - 1} with split={self.split:g}"),
            ("tolerate", not 0 <= self.tolerate < 1, "a share from 0 to 1, without 1"),
            ("max_length", self.max_length is not None and self.max_length < 2, "2 or more"),
            ("max_prompt_length", self.max_prompt_length is not None and self.max_prompt_length < 1, "1 or more"),
            ("shuffle_buffer", self.shuffle_buffer < 1, "1 or more"),
            ("format", self.format is not None and self.format not in FORMATS, ", ".join(FORMATS)),
        ):
            if wrong:
                found = "nothing" if name == "train" else getattr(self, name)
                raise InputError(f"data.{name}: {found}, expected {expected}")
        if self.split and self.sources["val"]:
            raise InputError("data: both split and validation are given; validation rows come from one of them")
        if self.split and self.streaming:
            raise InputError("data.split: a stream has no known end to hold a share of; name rows in data.validation")

    # ---- the composition

    def attach(self, algorithm: Any) -> None:
        before = self._attached
        super().attach(algorithm)
        if before != self._attached:
            self._gathered, self._reports, self._wrong, self._recipe = {}, {}, {}, None

    @property
    def stop_set(self) -> StopSet:
        """The tokens that end a completion, once a composition is attached."""
        return self.recipe.preparation.tokenisation.stop_set

    @property
    def recipe(self) -> Recipe:
        """How rows become groups for the composition that is attached."""
        if self._recipe is None:
            self._recipe = self._make_recipe()
        return self._recipe

    def _make_recipe(self) -> Recipe:
        tokenizer = self.tokenizer
        stops = generation_stops(tokenizer)
        tokenisation = Tokenisation(tokenizer, self.chat_template, self.template_arguments, stops)
        own = tokenizer.model_max_length
        longest = self.max_length or (own if own < 10**9 else None)  # transformers says "none" by a very large number
        limits = Limits(longest, self.max_prompt_length, self.overflow, self.room, self.context)
        if self.signal == "prompt":
            refuse_for_prompts(limits)
        reading = Reading("text", self.as_messages, "last" if self.signal == "prompt" else self.turns)
        preparation = Preparation(reading, self.signal, self.rules, tokenisation, limits, tokenizer.bos_token_id)
        identity = repr((tokenisation.identity, self.signal, self.rules, limits, tokenizer.bos_token_id))
        return Recipe(preparation, self.format, self.columns, identity)

    def tokenizer_of(self, algorithm: Any) -> Any:
        from transformers import AutoTokenizer

        if self.tokenizer_source is None:
            return algorithm.tokenizer
        if self.tokenizer is not None:
            return self.tokenizer
        try:
            return AutoTokenizer.from_pretrained(self.tokenizer_source)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            place = f"data.tokenizer: {self.tokenizer_source}"
            raise InputError(f"{place} cannot be read as a hub repository or folder: {first}") from error

    # ---- rows

    def prepare_data(self) -> None:
        """Stores and tokenises the rows once per machine; every rank then reads what is stored."""
        if self.signal is None:
            self.attach(self.trainer.lightning_module)
        for role in {self._role(split) for split in SPLITS[self.trainer.state.fn]}:
            if self.sources[role] and not (self.streaming and role == "train"):
                self._read(role)

    def load(self, split: Split) -> Sequence[Any] | StreamedGroups:
        if split == "train":
            return self._stream() if self.streaming else self._trained()
        role = self._role(split)
        if role == "train":
            data = self._read("train").data
            return self._reported(split, data.select(np.flatnonzero(self._held_out())))
        if split == "val" and not self.sources["val"]:
            return ()
        return self._reported(split, self._read(role).data)

    def _role(self, split: Split) -> str:
        """Whose rows a split is made of: prediction takes the test rows, or the validation rows where there are none."""
        role = split if split != "predict" else "test" if self.sources["test"] else "val"
        return "train" if role == "val" and self.split else role

    def _read(self, role: str) -> Gathered:
        if not self.sources[role]:
            name = "validation" if role == "val" else role
            instead = "; `validate` takes the validation rows" if role == "test" else ""
            raise InputError(f"data.{name}: names nothing, expected a file, a folder or a hub data set{instead}")
        if role not in self._gathered:
            gathered = gather(self.sources[role], self.recipe, self.cache_dir)
            self._wrong[role] = refuse(gathered, self.tolerate, self.overflow != "error", self.signal == "prompt")
            self._gathered[role] = gathered
        return self._gathered[role]

    def _trained(self) -> StoredGroups:
        gathered, weights = self._read("train"), [source.weight for source in self.sources["train"]]
        mine = np.flatnonzero(~self._held_out())
        rows = training_rows(gathered, mine, weights, self.seed)
        return self._reported("train", gathered.data.select(mine), rows)

    def _held_out(self) -> np.ndarray:
        """[n] of the training rows."""
        return held_out_rows(self._read("train").data, self.split, self.fold, self.split_seed)

    def _reported(self, split: Split, data: Any, rows: np.ndarray | None = None) -> StoredGroups:
        """The groups of these rows, or of all that are kept; counts them."""
        rows = kept_rows(data) if rows is None else rows
        once = np.unique(rows)
        self._reports[split] = split_report(data, StoredGroups(data.select(once)), repeated=len(rows) - len(once))
        return StoredGroups(data.select(rows))

    def _stream(self) -> StreamedGroups:
        flows, described = [], []
        for source in self.sources["train"]:
            found = tables(source, self.cache_dir, streaming=True)
            preparation, columns, line = self.recipe.of(source, found)
            flows.append(Flow(tuple(found), columns, preparation, source.weight))
            described.append(line)
        drops = self.overflow != "error"
        stream = StreamedGroups(tuple(flows), self.seed, self.shuffle_buffer, self.tolerate, drops)
        outcomes = stream.head(_HEAD)
        if outcomes and {outcome.reason for outcome in outcomes} == {ALONE}:
            raise InputError(
                f"data: the first {len(outcomes)} rows have one response each, and a stream does not bring rows with "
                "the same prompt together: write the responses of a prompt in one row, or set data.streaming to false"
            )
        head = Gathered(outcome_table(outcomes), (len(outcomes),), tuple(described))
        self._wrong["train"], self._gathered["train"] = refuse(head, self.tolerate, drops, self.signal == "prompt"), head
        self._reported("train", head.data)
        return stream

    def tokens(self, groups: Sequence[Any]) -> np.ndarray:
        return groups.tokens if isinstance(groups, StoredGroups) else super().tokens(groups)

    def pair_table(self, groups: Sequence[Any]) -> PairTable:
        return groups.pair_table if isinstance(groups, StoredGroups) else super().pair_table(groups)

    def strata(self, groups: Sequence[Any]) -> np.ndarray:
        if self.signal != "label" or not isinstance(groups, StoredGroups):
            return super().strata(groups)
        return np.array([np.mean(labels) for labels in column(groups.data, "labels").to_pylist()])

    # ---- report

    @property
    def report(self) -> DataReport:
        """What became of the rows of the splits that are set up."""
        tokenisation = self.recipe.preparation.tokenisation
        wrong = [row for rows in self._wrong.values() for row in rows]
        more = [f"and {len(wrong) - _NAMED} more"] if len(wrong) > _NAMED else []
        streamed = f"a stream: the counts of train are those of its first {_HEAD} rows"
        notes = [streamed] * self.streaming + ([] if self._law is None else [self._law.line()])
        return DataReport(
            sources=tuple(line for gathered in self._gathered.values() for line in gathered.sources),
            signal=str(self.signal),
            splits=dict(self._reports),
            notes=tuple(notes),
            wrong=tuple(wrong[:_NAMED] + more),
            tokenizer=f"{self.tokenizer.name_or_path or type(self.tokenizer).__name__}, {len(self.tokenizer)} tokens",
            template=tokenisation.template.source,
            stop_set=tokenisation.stop_set.text(),
            samples=tuple(sample_text(group, self.tokenizer) for group in self._samples(2)),
        )

    def _samples(self, n: int) -> list[Any]:
        groups = self._loaded.get("train") or self._loaded.get("val") or self._loaded.get("test") or ()
        return [] if isinstance(groups, StreamedGroups) else [groups[index] for index in range(min(n, len(groups)))]


def _listed(sources: Sources | None) -> tuple[Source, ...]:
    several = [] if sources is None else [sources] if isinstance(sources, (str, Source)) else sources
    return tuple(Source(source) if isinstance(source, str) else source for source in several)
