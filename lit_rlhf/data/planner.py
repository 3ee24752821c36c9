"""`PlannedData`, the base of every data module: prompt groups in, items of one optimizer step out.

One item of the train loader is one optimizer step: the tuple of this rank's micro-batches. `batch_size` counts prompts
over all ranks, each with all its sequences and pairs; `micro_batch_tokens` is a matter of memory alone. For an algorithm
that completes prompts itself, one item is one iteration: the tuple of this rank's share of its prompts, in one piece.
What a step contains is a function of the seed and its position (see `plan`), so `position` is all there is to restore; of
a pair design that follows the policy, the weights of the pairs besides.
"""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from lit_rlhf.data import plan
from lit_rlhf.data.collation import Signal, collate, refuse_crowded, refuse_oversized, signal_of, tokens_of
from lit_rlhf.data.designs import Named, PairDesign, PairLaw, PairTable, WeighedGroups, design_of, law_of
from lit_rlhf.data.loading import GroupStream, Item, ItemLoader, Items, StreamItems, StreamLoader, budget_of
from lit_rlhf.data.records import Group
from lit_rlhf.errors import InputError
from lit_rlhf.types import PreferenceBatch, Prompts

__all__ = ["PlannedData", "Split", "collate"]

Split = Literal["train", "val", "test", "predict"]
SPLITS: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",),
}


class PlannedData(LightningDataModule, ABC):
    """Plans items over the groups that a subclass loads.

    Training: every epoch has each group once, in an order of its own; unpaired labels are spread so that every step
    has nearly its share of each. The last step of an epoch has the rest, and the loss is divided by what is there.
    Every rank has the same number of micro-batches in a step; where there are fewer groups than ranks, a rank repeats
    a group with all weights 0, which changes no sum and no count.
    Evaluation: every group counts exactly once over all ranks, in order, in steps of equal size up to one.

    Args:
        batch_size: prompts in an optimizer step, over all ranks.
        micro_batch_tokens: most tokens in a micro-batch, a prompt counted once.
        seed: of the order of the groups.
        num_workers: processes that make items; any number gives the same items.
        design: what training pairs weigh: `uniform`, `inverse_variance`, `sampler`, or a `PairDesign`.

    Raises:
        InputError: an argument is out of range, or a group has more tokens than a micro-batch may.
    """

    def __init__(
        self,
        batch_size: int,
        micro_batch_tokens: int,
        seed: int = 0,
        num_workers: int = 0,
        design: PairDesign | Named = "uniform",
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1), ("micro_batch_tokens", micro_batch_tokens, 2),
            ("seed", seed, 0), ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise InputError(f"data.{name}: {value}, expected {least} or more")
        self.batch_size, self.micro_batch_tokens = batch_size, micro_batch_tokens
        self.seed, self.num_workers, self.design = seed, num_workers, design_of(design)
        self.tokenizer: Any = None
        self.signal: Signal | None = None
        self.needs: frozenset[str] = frozenset()
        self.room, self.context = 0, None
        self._loaded: dict[Split, Sequence[Group] | GroupStream] = {}
        self._tokens: dict[Split, np.ndarray] = {}
        self._made: dict[tuple[Split, int, int], Items | StreamItems] = {}
        self._handed_out = 0
        self._law: PairLaw | None = None

    # ---- what a subclass says

    @abstractmethod
    def load(self, split: Split) -> Sequence[Group] | GroupStream:
        """The groups of a split, in order, the same on every rank; empty where there are none. Only `train` may be a stream.

        `self.tokenizer`, `self.signal` and `self.needs` (all that the composition reads) say how to make them. Where the
        signal is `prompt`, groups have a `record` and no completion, and `self.room` tokens are left for one within
        `self.context` (None: no limit).
        """

    @property
    @abstractmethod
    def report(self) -> Any:
        """What was kept, cut and dropped, once `setup` is done."""

    def tokenizer_of(self, algorithm: Any) -> Any:
        """The tokenizer that writes the rows for a composition: its own."""
        return algorithm.tokenizer

    def tokens(self, groups: Sequence[Group]) -> np.ndarray:
        """[n] unique tokens of each group."""
        return np.array([tokens_of(group) for group in groups], dtype=np.int64)

    def strata(self, groups: Sequence[Group]) -> np.ndarray:
        """[n] what every step has its share of: the share of good completions where the signal is a label."""
        if self.signal != "label":
            return np.zeros(len(groups))
        return np.array([np.mean(group.labels) for group in groups])

    def pair_table(self, groups: Sequence[Group]) -> PairTable:
        """The pairs of groups, for a design."""
        return PairTable.of(groups)

    # ---- set-up

    def attach(self, algorithm: Any) -> None:
        """Takes over the tokenizer and the signal of a composition; what was loaded for another signal is forgotten.

        One that completes prompts may say `max_new_tokens`, how long completions get, and `context`, how many tokens
        its models can read.
        """
        before = self._attached
        self.tokenizer, self.signal = self.tokenizer_of(algorithm), signal_of(algorithm.needs)
        self.needs = frozenset(algorithm.needs)
        prompts = self.signal == "prompt"
        self.room = getattr(algorithm, "max_new_tokens", 0) if prompts else 0
        self.context = getattr(algorithm, "context", None) if prompts else None
        if before != self._attached:
            self._loaded, self._made = {}, {}

    @property
    def _attached(self) -> tuple[Any, ...]:
        """What the groups follow from besides the module's own arguments."""
        return self.signal, id(self.tokenizer), self.room, self.context

    def setup(self, stage: str) -> None:
        """Loads the splits of a stage of Lightning that are not loaded yet."""
        if self.trainer:
            self.attach(self.trainer.lightning_module)
        if self.signal is None:
            raise InputError("data: attach(algorithm) comes before setup: it says what is read, and with which tokenizer")
        for split in SPLITS[stage]:
            if split not in self._loaded:
                self._loaded[split] = groups = self.load(split)
                if not isinstance(groups, GroupStream):
                    self._tokens[split] = self.tokens(groups)
                    refuse_oversized(groups, self._tokens[split], budget_of(self.signal, self.micro_batch_tokens))
                    refuse_crowded(groups, self._tokens[split], self.room, self.context)
                if split == "train":
                    self._law = law_of(self.design, self.signal, groups, self.pair_table)
        if stage == "fit" and self.trainer:
            self._refuse_blind()
        if stage == "fit" and self.trainer and not self.groups("val"):
            self.trainer.limit_val_batches = 0  # Lightning warns of a validation loader without items

    def groups(self, split: Split) -> Sequence[Group] | GroupStream:
        """What `load` gave for a split that is set up."""
        return self._loaded[split]

    def sample_prompts(self, n: int) -> tuple[Group, ...]:
        """The first n groups of the validation data, or of the first other split that is loaded and has some."""
        groups = next((found for split in ("val", *self._loaded) if (found := self._loaded.get(split))), ())
        return tuple(itertools.islice(groups.read(0) if isinstance(groups, GroupStream) else groups, n))

    def rows(self, position: int, split: Split = "train") -> tuple[str, ...]:
        """Where the groups of an item come from, on all ranks together."""
        items = self._items(split)
        step = items.step(position)
        return tuple(group.row if isinstance(items, StreamItems) else items.groups[group].row for group in step)

    def rows_of_rank(self, position: int, split: Split) -> tuple[tuple[str, ...], ...]:
        """For each micro-batch of this rank's item, where its groups come from; nothing for a repeat that does not count."""
        items = self._items(split)
        return tuple(
            tuple(items.groups[index].row for index in part.groups) if part.counted else ()
            for part in items.micro_batches(position)
        )

    # ---- items

    def item(self, position: int, rank: int = 0, ranks: int = 1) -> Item:
        """The train item of a position, on one of several ranks, without a Trainer; nothing is remembered.

        Raises:
            InputError: the rows are a stream.
        """
        return self._stored("item", rank, ranks)[position]

    def fresh_prompts(self, index: Tensor, position: int, attempt: int) -> Prompts:
        """Other prompts for places of an iteration: drawn, with repeats, from the training prompts that are not in it.

        A prompt is a function of the seed, the position, the attempt and its place, and of nothing else.

        Args:
            index: [n] the places.
            position: of the train item.
            attempt: sets the draws of several attempts apart.

        Raises:
            InputError: the rows are a stream.
        """
        items, places = self._stored("fresh_prompts", 0, 1), index.tolist()
        drawn = [plan.drawn(len(items.groups), items.step(position), (self.seed, position, attempt, place)) for place in places]
        return collate([items.groups[group] for group in drawn], "prompt", index=places)

    def _stored(self, what: str, rank: int, ranks: int) -> Items:
        items = self._items_of("train", rank, ranks)
        if isinstance(items, StreamItems):
            raise InputError(f"data.{what}: a stream has no rows to choose from by number; set data.streaming to false")
        return items

    def train_dataloader(self) -> ItemLoader | StreamLoader:
        if self.trainer and self.trainer.overfit_batches:
            raise InputError("trainer.overfit_batches: epochs go on through the data; give data of those few rows instead")
        items = self._items("train")
        if isinstance(items, StreamItems):
            return StreamLoader(items, self.num_workers, clock=self)
        return ItemLoader(items, self.num_workers, clock=self)

    def val_dataloader(self) -> ItemLoader:
        return ItemLoader(self._items("val"), self.num_workers)

    def test_dataloader(self) -> ItemLoader:
        return ItemLoader(self._items("test"), self.num_workers)

    def predict_dataloader(self) -> ItemLoader:
        return ItemLoader(self._items("predict"), self.num_workers)

    def _items(self, split: Split) -> Items | StreamItems:
        """The items of this process, made once per split."""
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._items_of(split, rank, ranks)

    def _items_of(self, split: Split, rank: int, ranks: int) -> Items | StreamItems:
        if (split, rank, ranks) not in self._made:
            self._made[split, rank, ranks] = self._make(split, rank, ranks)
        return self._made[split, rank, ranks]

    def _make(self, split: Split, rank: int, ranks: int) -> Items | StreamItems:
        groups = self.groups(split)
        if not isinstance(groups, GroupStream) and not len(groups):
            raise InputError(f"data: there is no row in the split {split}; the data report says what became of the rows")
        shared = {"batch_size": self.batch_size, "micro_batch_tokens": self.micro_batch_tokens, "signal": self.signal}
        if isinstance(groups, GroupStream):
            return StreamItems(groups, **shared, rank=rank, ranks=ranks)
        seed, strata = self.seed if split == "train" else None, self.strata(groups)
        weighed = WeighedGroups(groups, self._law) if split == "train" and self._law is not None else groups
        return Items(weighed, self._tokens[split], strata, **shared, seed=seed, rank=rank, ranks=ranks)

    # ---- pair weights

    @property
    def follows_policy(self) -> bool:
        """Whether training pairs weigh what follows from their margins under the policy."""
        return self._law is not None and self.design.follows_policy

    @property
    def training_pairs(self) -> int:
        """E, where a design weighs them."""
        return 0 if self._law is None else len(self._law.pairs)

    def follow(self, margin: np.ndarray) -> None:
        """Weighs the training pairs anew, for the items that are made from now on.

        Args:
            margin: [E] of every training pair, in the order of the groups (see `PairDesign`).
        """
        self._law.follow(margin)

    def pair_pass(self) -> Iterator[tuple[PreferenceBatch, Tensor]]:
        """Every training pair once over all ranks, in micro-batches of this rank, as many on each, with the pairs' numbers [E].

        Pairs weigh what they do by the data; the numbers of a repeat that only keeps ranks in step are -1.
        """
        own, groups, start = self._items("train"), self.groups("train"), self._law.pairs.start
        items = Items(
            groups, own.tokens, own.strata, self.batch_size, self.micro_batch_tokens, None, self.signal, own.rank, own.ranks
        )
        for position, item in enumerate(ItemLoader(items, self.num_workers)):
            for part, batch in zip(items.micro_batches(position), item, strict=True):
                numbers = np.concatenate([np.arange(start[group], start[group + 1]) for group in part.groups])
                yield batch, torch.from_numpy(numbers if part.counted else np.full_like(numbers, -1))

    def _refuse_blind(self) -> None:
        """Raises: InputError: the design follows the policy, and no callback tells it."""
        if self.follows_policy and not any(getattr(callback, "writes_margins", False) for callback in self.trainer.callbacks):
            raise InputError(
                f"data.design: {self.design.identity} reads margins under the policy, and no callback writes them; "
                "add lit_rlhf.callbacks.PairWeights() to the trainer's callbacks"
            )

    # ---- position

    @property
    def position(self) -> int:
        """Train items used since the start of training: under a Trainer the algorithm's own count, else those handed out."""
        module = self.trainer.lightning_module if self.trainer else None
        return getattr(module, "items_done", self._handed_out)

    @position.setter
    def position(self, items: int) -> None:
        self._handed_out = items

    def state_dict(self) -> dict[str, Any]:
        weights = {"pair_weights": torch.from_numpy(self._law.weight.copy())} if self.follows_policy else {}
        return {"position": self.position} | self._plan() | weights

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._handed_out = state["position"]
        before = self._plan() | state
        changed = [f"{name} was {before[name]} and is {now}" for name, now in self._plan().items() if before[name] != now]
        if changed and "train" in self._loaded:
            raise InputError(
                f"data: the checkpoint stands at item {state['position']} of another plan: {'; '.join(changed)}. "
                "Resume with the same data, or start a new run from the checkpoint's weights"
            )
        if self.follows_policy and "pair_weights" in state:
            self._law.weight = state["pair_weights"].numpy()

    def _plan(self) -> dict[str, Any]:
        """What the items follow from; the lengths of the rows stand for the rows."""
        train = self._loaded.get("train", ())
        streamed = isinstance(train, GroupStream) or not len(train)
        rows = b"" if streamed else np.ascontiguousarray(self._tokens["train"], dtype=np.int64).tobytes()
        of_rows = {"prompts": 0 if streamed else len(train), "rows_hash": hashlib.blake2b(rows, digest_size=8).hexdigest()}
        return {"batch_size": self.batch_size, "seed": self.seed, "design": self.design.identity} | of_rows
