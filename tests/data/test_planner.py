"""`PlannedData`: what its items contain does not depend on memory, workers, ranks or restarts."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from lit_rlhf.data.loading import GroupStream, Items
from lit_rlhf.data.planner import PlannedData
from lit_rlhf.data.records import Group
from lit_rlhf.errors import InputError
from lit_rlhf.types import PromptRecord, ScoredBatch

LENGTHS = np.random.default_rng(3).integers(1, 20, size=23).tolist()
GOOD = [1.0, 0.0, 0.0, 0.0] * 6


def group(number: int) -> Group:
    """Its prompt is its number, its completion has LENGTHS[number] tokens, its label is GOOD[number]."""
    return Group(
        prompt_ids=np.array([number]), completions=(np.full(LENGTHS[number], number),),
        rewards=(float(number),), labels=(GOOD[number],), row=f"row {number}",
    )


class Numbered(PlannedData):
    """Groups 0..n-1 for training and as many as asked for elsewhere."""

    report = None

    def __init__(self, n: int = 23, evaluation: int = 0, **plan) -> None:
        super().__init__(**{"batch_size": 4, "micro_batch_tokens": 25} | plan)
        self.sizes = {"train": n, "val": evaluation, "test": evaluation, "predict": evaluation}

    def load(self, split: str) -> Sequence[Group]:
        return [group(number) for number in range(self.sizes[split])]


class Streamed(Numbered):
    """The same groups as a stream, every pass in the same order."""

    def load(self, split: str) -> Sequence[Group] | GroupStream:
        return Stream(self.sizes["train"]) if split == "train" else super().load(split)


class Stream(GroupStream):
    def __init__(self, n: int) -> None:
        self.n = n

    def read(self, number: int) -> Iterator[Group]:
        return map(group, range(self.n))


class Watcher(LightningModule):
    """Notes the prompts of every item it is given, and fails at one of them."""

    tokenizer, needs = None, frozenset({"reward"})

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.fail_at, self.items_done, self.seen = fail_at, 0, []
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, item, index: int) -> None:
        if self.items_done == self.fail_at:
            raise RuntimeError("stopped on purpose")
        self.seen.append(prompts(item))
        self.optimizers().step()
        self.items_done += 1

    def validation_step(self, item, index: int) -> None:
        self.seen.append(("val", prompts(item)))

    def predict_step(self, item, index: int) -> tuple[int, ...]:
        return prompts(item)

    def on_save_checkpoint(self, checkpoint) -> None:
        checkpoint["items_done"] = self.items_done

    def on_load_checkpoint(self, checkpoint) -> None:
        self.items_done = checkpoint["items_done"]


def prompts(item) -> tuple[int, ...]:
    """The prompts of an item that count, in order."""
    return tuple(
        number for batch in item if batch.sequences.weight is None for number in batch.sequences.prompt_ids.tolist()
    )


def ready(data: PlannedData, stage: str = "fit", needs: frozenset[str] = Watcher.needs) -> PlannedData:
    data.attach(SimpleNamespace(tokenizer=None, needs=needs))
    data.setup(stage)
    return data


def items(data: PlannedData, count: int) -> list[tuple[int, ...]]:
    """The prompts of the next items, in a bare loop over epochs."""
    epochs = (item for _ in itertools.count() for item in data.train_dataloader())
    return [prompts(item) for item in itertools.islice(epochs, count)]


def ranked(data: PlannedData, split: str, ranks: int) -> list[Items]:
    """The items as each of several ranks would plan them."""
    made = []
    for rank in range(ranks):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)
        made.append(data._items(split))
    data.trainer = None
    return made


def trainer(folder, **arguments) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(**quiet | {"accelerator": "cpu", "devices": 1, "max_epochs": 3, "default_root_dir": folder} | arguments)


def test_an_epoch_has_every_group_once_in_full_steps_and_a_last_smaller_one():
    steps = items(ready(Numbered()), 12)
    for epoch in (steps[:6], steps[6:]):
        assert [len(step) for step in epoch] == [4, 4, 4, 4, 4, 3]
        assert sorted(itertools.chain(*epoch)) == list(range(23))
    assert steps[:6] != steps[6:]


def test_another_seed_gives_another_order_and_the_same_seed_the_same():
    first, same, other = (items(ready(Numbered(seed=seed)), 6) for seed in (0, 0, 1))
    assert first == same != other


def test_micro_batches_keep_the_budget_and_do_not_change_the_step():
    def contents(budget: int) -> list[Counter]:
        data = ready(Numbered(micro_batch_tokens=budget))
        made = list(itertools.islice(data.train_dataloader(), 6))
        assert all(int(batch.sequences.group_tokens().sum()) <= budget for item in made for batch in item)
        return [Counter(zip(prompts(item), (r for batch in item for r in batch.reward.tolist()), strict=True)) for item in made]

    assert contents(20) == contents(45) == contents(10_000)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_the_steps_of_one_process(ranks):
    data = ready(Numbered())
    whole = ranked(data, "train", 1)[0]
    shares = ranked(data, "train", ranks)
    for position in range(12):
        parts = [share[position] for share in shares]
        assert len({len(part) for part in parts}) == 1
        assert sorted(itertools.chain(*map(prompts, parts))) == sorted(prompts(whole[position]))


def test_a_repeat_weighs_nothing():
    data = ready(Numbered(n=2, batch_size=2))
    for share, alone in zip(ranked(data, "train", 3), (False, False, True), strict=True):
        (batch,) = share[0]
        assert (float(batch.count("sequence")) == 0) == (float(batch.count("token")) == 0) == alone


def test_workers_change_nothing_and_take_nothing_from_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = [items(ready(Numbered(num_workers=workers)), 8) for workers in (0, 2)]
    assert made[0] == made[1]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("start", [1, 6, 9])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_position_continues_the_stream(start, workers):
    whole = items(ready(Numbered()), 15)
    data = ready(Numbered(num_workers=workers))
    data.position = start
    assert items(data, 15 - start) == whole[start:]
    assert data.position == 15


@pytest.mark.parametrize("batch_size", [5, 8])
def test_labels_are_spread_over_steps(batch_size):
    data = ready(Numbered(batch_size=batch_size), needs=frozenset({"label"}))
    goods = [sum(GOOD[number] for number in step) for step in items(data, 23 // batch_size)]
    assert all(abs(good - batch_size * 6 / 23) <= 1 for good in goods)


@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_evaluation_has_every_group_once_over_all_ranks(split, ranks):
    stage = {"val": "validate"}.get(split, split)
    shares = ranked(ready(Numbered(evaluation=13), stage), split, ranks)
    assert len({len(share) for share in shares}) == 1
    seen = [number for share in shares for position in range(len(share)) for number in prompts(share[position])]
    assert sorted(seen) == list(range(13))


def test_rows_are_named_for_the_step_and_for_the_rank():
    data = ready(Numbered(evaluation=2), "fit")
    step = next(iter(data.train_dataloader()))
    assert sorted(data.rows(0)) == sorted(f"row {number}" for number in prompts(step))
    assert data.rows_of_rank(0, "train") == tuple(
        tuple(f"row {number}" for number in batch.sequences.prompt_ids.tolist()) for batch in step
    )


def test_sample_prompts_are_the_first_of_validation_and_else_of_training():
    assert [g.row for g in ready(Numbered(evaluation=3)).sample_prompts(2)] == ["row 0", "row 1"]
    assert len(ready(Numbered(n=5)).sample_prompts(8)) == 5
    assert len(ready(Streamed()).sample_prompts(3)) == 3


def test_a_group_larger_than_a_micro_batch_is_refused_with_its_row_and_the_number_needed():
    largest = max(LENGTHS) + 1
    with pytest.raises(InputError, match=rf"row {LENGTHS.index(max(LENGTHS))}.*{largest} tokens.*micro_batch_tokens={largest - 1}.*{largest} or more"):
        ready(Numbered(micro_batch_tokens=largest - 1))
    ready(Numbered(micro_batch_tokens=largest))


@pytest.mark.parametrize("argument", ["batch_size", "micro_batch_tokens", "seed", "num_workers"])
def test_arguments_out_of_range_are_named(argument):
    with pytest.raises(InputError, match=f"data.{argument}: -1"):
        Numbered(**{argument: -1})


def test_no_training_rows_is_refused():
    with pytest.raises(InputError, match="no row in the split train"):
        ready(Numbered(n=0)).train_dataloader()


def test_another_signal_forgets_what_was_loaded():
    data = ready(Numbered())
    ready(data, needs=frozenset())
    (batch, *_) = next(iter(data.train_dataloader()))
    assert data.signal == "demonstration" and batch.reward.unique().tolist() == [1.0]


def test_setup_without_an_algorithm_says_what_is_missing():
    with pytest.raises(InputError, match="attach"):
        Numbered().setup("fit")


# ---- prompts


class Asked(Numbered):
    """The same groups as prompts of LENGTHS[number] + 1 tokens alone."""

    def load(self, split: str) -> Sequence[Group]:
        return [asked(number) for number in range(self.sizes[split])]


class StreamedPrompts(Asked):
    """Its training prompts as a stream."""

    def load(self, split: str) -> Sequence[Group] | GroupStream:
        return PromptStream(self.sizes["train"]) if split == "train" else super().load(split)


class PromptStream(Stream):
    def read(self, number: int) -> Iterator[Group]:
        return map(asked, range(self.n))


def asked(number: int) -> Group:
    ids = np.full(LENGTHS[number] + 1, number)
    return Group(ids, (), row=f"row {number}", record=PromptRecord(str(number), row=f"row {number}"))


ASKS = frozenset({"prompt", "reward"})


def places(item) -> dict[int, str]:
    """The prompts of an item that count, by their place in the step."""
    (prompts,) = item
    counted = zip(prompts.index.tolist(), prompts.records, prompts.weight.tolist(), strict=True)
    return {index: record.prompt for index, record, weight in counted if weight}


@pytest.mark.parametrize("data", [Asked, StreamedPrompts])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_the_prompts_of_one_process_at_the_same_places(data, ranks):
    module = ready(data(micro_batch_tokens=2), needs=ASKS)
    whole = list(map(places, itertools.islice(ranked(module, "train", 1)[0], 9)))
    shares = [list(itertools.islice(share, 9)) for share in ranked(module, "train", ranks)]
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        found = [places(part) for part in parts]
        assert sum(map(len, found)) == len(step) == len({place for part in found for place in part})
        assert {place: prompt for part in found for place, prompt in part.items()} == step


def test_prompts_are_shared_by_their_lengths():
    data = ready(Asked(batch_size=23), needs=ASKS)
    loads = [int(data.item(0, rank, 2)[0].prompt_lengths.sum()) for rank in range(2)]
    assert sum(loads) == sum(LENGTHS) + 23 and abs(loads[0] - loads[1]) <= max(LENGTHS) + 1


def test_a_repeated_prompt_weighs_nothing():
    data = ready(Asked(n=2, batch_size=2), needs=ASKS)
    items = [data.item(0, rank, 3) for rank in range(3)]
    assert [len(item[0].records) for item in items] == [1, 1, 1]
    assert [float(item[0].weight) for item in items] == [1.0, 1.0, 0.0]


def test_evaluation_has_every_prompt_once():
    data = ready(Asked(evaluation=13), "validate", needs=ASKS)
    shares = ranked(data, "val", 2)
    seen = [prompt for share in shares for position in range(len(share)) for prompt in places(share[position]).values()]
    assert sorted(map(int, seen)) == list(range(13))


def test_fresh_prompts_are_a_function_of_seed_position_attempt_and_place():
    data = ready(Asked(), needs=ASKS)
    index = torch.tensor([3, 0, 2])
    drawn = data.fresh_prompts(index, 4, 1)
    assert drawn.index.tolist() == [3, 0, 2] and drawn.weight.tolist() == [1.0] * 3
    data.item(9)
    again = data.fresh_prompts(torch.tensor([2, 3]), 4, 1)
    assert again.records == (drawn.records[2], drawn.records[0])
    every = torch.arange(12)
    others = [data.fresh_prompts(every, 4, 2), data.fresh_prompts(every, 5, 1), ready(Asked(seed=1), needs=ASKS).fresh_prompts(every, 4, 1)]
    assert all(other.records != data.fresh_prompts(every, 4, 1).records for other in others)


def test_fresh_prompts_are_those_that_are_not_in_the_step():
    data = ready(Asked(n=6), needs=ASKS)
    step = set(places(data.item(0)).values())
    found = {record.prompt for record in data.fresh_prompts(torch.arange(64), 0, 1).records}
    assert len(step) == 4 and found == {str(number) for number in range(6)} - step
    assert len(ready(Asked(n=3), needs=ASKS).fresh_prompts(torch.tensor([0]), 0, 1).records) == 1


@pytest.mark.parametrize("call", [lambda data: data.item(0), lambda data: data.fresh_prompts(torch.tensor([0]), 0, 1)])
def test_a_stream_of_prompts_has_none_by_number(call):
    with pytest.raises(InputError, match="a stream has no rows to choose from by number; set data.streaming to false"):
        call(ready(StreamedPrompts(), needs=ASKS))


def test_prompts_leave_room_for_what_the_algorithm_samples():
    longest = max(LENGTHS) + 1
    composition = SimpleNamespace(tokenizer=None, needs=ASKS, max_new_tokens=7, context=longest + 7)
    data = Asked()
    data.attach(composition)
    data.setup("fit")
    composition.max_new_tokens = 8
    data.attach(composition)
    with pytest.raises(InputError, match=rf"row {LENGTHS.index(max(LENGTHS))}: .* {longest} tokens .*max_new_tokens=8"):
        data.setup("fit")


def test_an_off_line_algorithm_reads_rows_of_any_length():
    data = Numbered()
    data.attach(SimpleNamespace(tokenizer=None, needs=Watcher.needs, max_new_tokens=8, context=4))
    data.setup("fit")
    assert (data.room, data.context) == (0, None)


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_item_is_had_by_its_position_without_a_trainer(ranks):
    data = ready(Numbered(), needs=frozenset())
    for share in ranked(data, "train", ranks):
        for position in (7, 2):
            item = data.item(position, share.rank, ranks)
            assert prompts(item) == prompts(share[position]) and all(isinstance(batch, ScoredBatch) for batch in item)
    assert data.position == 0


# ---- streams


def test_a_stream_has_full_steps_over_passes_on_every_number_of_workers_and_ranks():
    whole = items(ready(Streamed(n=6)), 5)
    assert [sorted(step) for step in whole] == [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 4, 5], [0, 1, 2, 3], [0, 1, 4, 5]]
    assert items(ready(Streamed(n=6, num_workers=2)), 5) == whole
    shares = [itertools.islice(share, 5) for share in ranked(ready(Streamed(n=6)), "train", 2)]
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(itertools.chain(*map(prompts, parts))) == sorted(step)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_position_continues_a_stream(workers):
    whole = items(ready(Streamed()), 9)
    data = ready(Streamed(num_workers=workers))
    data.position = 4
    assert items(data, 5) == whole[4:]


def test_a_stream_refuses_a_group_larger_than_a_micro_batch():
    with pytest.raises(InputError, match="micro_batch_tokens=2"):
        items(ready(Streamed(micro_batch_tokens=2)), 5)


# ---- under a Trainer


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("data", [Numbered, Streamed])
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_restarted_fit_neither_repeats_nor_skips(tmp_path, data, limit, workers):
    arguments = {"max_steps": 14, "max_epochs": -1, "limit_train_batches": limit}
    whole = Watcher()
    trainer(tmp_path, **arguments).fit(whole, datamodule=data(num_workers=workers))
    assert whole.seen == items(ready(data()), 14)
    for fail_at in (3, 9):
        first, second = Watcher(fail_at), Watcher()
        run = trainer(tmp_path, **arguments)
        with pytest.raises(RuntimeError, match="on purpose"):
            run.fit(first, datamodule=data(num_workers=workers))
        run.save_checkpoint(tmp_path / "stopped.ckpt")
        trainer(tmp_path, **arguments).fit(second, datamodule=data(num_workers=workers), ckpt_path=tmp_path / "stopped.ckpt")
        assert first.seen + second.seen == whole.seen


def test_epochs_and_validation_fall_where_lightning_counts_them(tmp_path, recwarn):
    watcher = Watcher()
    run = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    run.fit(watcher, datamodule=Numbered(evaluation=5))
    validation = [("val", (0, 1)), ("val", (2, 3, 4))]
    assert watcher.seen[6:8] == watcher.seen[14:] == validation
    assert run.num_training_batches == 6 and run.global_step == 12 and run.current_epoch == 2
    assert run.estimated_stepping_batches == 12
    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, UserWarning)] == []


def test_prediction_gives_every_group_once_with_its_row(tmp_path):
    data = Numbered(evaluation=7)
    predictions = trainer(tmp_path).predict(Watcher(), datamodule=data)
    assert sorted(itertools.chain(*predictions)) == list(range(7))
    rows = [row for position in range(2) for part in data.rows_of_rank(position, "predict") for row in part]
    assert rows == [f"row {number}" for number in itertools.chain(*predictions)]


class Noting(Watcher):
    """Notes in files what its rank saw, and saves when training ends."""

    def __init__(self, folder) -> None:
        super().__init__()
        self.folder = folder

    def on_train_end(self) -> None:
        steps = [step for step in self.seen if step[0] != "val"]
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(steps))
        self.trainer.save_checkpoint(self.folder / f"{self.items_done}.ckpt")


def test_two_processes_share_the_steps_of_one_and_resume_where_they_stopped(tmp_path):
    together = []
    for workers, stop, resume in ((0, 4, None), (2, 9, tmp_path / "4.ckpt")):
        run = trainer(tmp_path, strategy="ddp_fork", devices=2, max_epochs=-1, max_steps=stop)
        run.fit(Noting(tmp_path), datamodule=Numbered(evaluation=5, num_workers=workers), ckpt_path=resume)
        ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
        together += [sorted(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert together == [sorted(step) for step in items(ready(Numbered()), 9)]


def test_a_second_algorithm_gets_what_it_reads(tmp_path):
    data = Numbered()
    trainer(tmp_path, max_steps=1).fit(Watcher(), datamodule=data)
    other = Watcher()
    other.needs = frozenset()
    trainer(tmp_path, max_steps=1).fit(other, datamodule=data)
    assert data.signal == "demonstration" and other.items_done == 1


def test_overfitting_batches_of_lightning_is_refused(tmp_path):
    with pytest.raises(InputError, match="overfit_batches"):
        trainer(tmp_path, overfit_batches=2).fit(Watcher(), datamodule=Numbered())


def test_resuming_another_plan_is_refused(tmp_path):
    run = trainer(tmp_path, max_steps=2)
    run.fit(Watcher(), datamodule=Numbered())
    run.save_checkpoint(tmp_path / "two.ckpt")
    with pytest.raises(InputError, match="item 2 of another plan: batch_size was 4 and is 5"):
        trainer(tmp_path, max_steps=4).fit(Watcher(), datamodule=Numbered(batch_size=5), ckpt_path=tmp_path / "two.ckpt")
    reordered = Numbered()
    reordered.load = lambda split: Numbered.load(reordered, split)[::-1]
    with pytest.raises(InputError, match="of another plan: rows_hash was [0-9a-f]{16} and is"):
        trainer(tmp_path, max_steps=4).fit(Watcher(), datamodule=reordered, ckpt_path=tmp_path / "two.ckpt")
