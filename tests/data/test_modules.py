"""`Files`: from a user's file to planned batches and a report that accounts for every row."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from lightning import LightningModule
from support import fit
from tokens import CHATML, byte_tokenizer

from lit_rlhf.data.modules import Files
from lit_rlhf.data.rewards import Clip, Logit
from lit_rlhf.data.sources import Source, tables
from lit_rlhf.errors import InputError
from lit_rlhf.types import PreferenceBatch, ScoredBatch

NEEDS = {
    "demonstration": frozenset(),
    "label": frozenset({"label"}),
    "reward": frozenset({"reward"}),
    "preference": frozenset({"chosen", "rejected"}),
    "gap": frozenset({"chosen", "rejected", "reward_gap"}),
}


@dataclass(frozen=True)
class Composition:
    """What a data module asks of an algorithm."""

    needs: frozenset[str]
    tokenizer: Any


def write(path, rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def pairs(n, start=0):
    return [{"prompt": f"Q{index}:", "chosen": f" yes {index}", "rejected": " no"} for index in range(start, start + n)]


@pytest.fixture
def build(tmp_path):
    def made(train, signal="preference", stage="fit", tokenizer=None, **arguments):
        names = {"train": train} | {name: arguments.pop(name) for name in ("validation", "test") if name in arguments}
        written = {
            name: write(tmp_path / f"{name}.jsonl", rows)
            if isinstance(rows, list) and not isinstance(rows[0], Source)
            else rows
            for name, rows in names.items()
        }
        data = Files(**written, cache_dir=str(tmp_path / "cache"), **({"batch_size": 4} | arguments))
        data.attach(Composition(NEEDS[signal], tokenizer or byte_tokenizer()))
        data.setup(stage)
        return data

    return made


def rows(data, split="train"):
    return [group.row for group in data.groups(split)]


# ---- signals to batches


def test_pairs_become_planned_batches(build):
    data = build(pairs(10))
    items = list(data.train_dataloader())
    assert [len(batch.chosen) for item in items for batch in item] == [4, 4, 2]
    assert all(isinstance(batch, PreferenceBatch) for item in items for batch in item)
    assert sorted(row for position in range(3) for row in data.rows(position)) == sorted(
        f"train.jsonl:{i}" for i in range(1, 11)
    )


@pytest.mark.parametrize("signal", ["demonstration", "label", "reward", "gap", "preference"])
def test_a_user_s_own_scored_file_serves_every_loss(build, signal):
    mine = [{"q": f"Q{i}", "out": [{"t": "a", "p": 0.2}, {"t": "b", "p": 0.9}, {"t": "c", "p": 0.5}]} for i in range(4)]
    data = build(
        mine,
        signal,
        columns={"prompt": "q", "completion": "out[].t", "reward": "out[].p"},
        reward_transform=[Logit(), Clip(-1, 1)],
        label_above=0.5,
    )
    ((batch,),) = list(data.train_dataloader())
    assert isinstance(batch, PreferenceBatch if signal in ("gap", "preference") else ScoredBatch)
    sequences = {"demonstration": 4}.get(signal, 12)
    assert len(batch.sequences.completion_lengths) == sequences
    if signal == "reward":
        assert batch.reward.reshape(4, 3).tolist() == [[-1.0, 1.0, 0.0]] * 4
    if signal == "label":
        assert batch.reward.reshape(4, 3).tolist() == [[0.0, 1.0, 0.0]] * 4
    if signal == "gap":
        assert batch.reward_gap.reshape(4, 3).tolist() == [[1.0, 2.0, 1.0]] * 4


def test_paired_data_give_both_labels_in_every_step(build):
    data = build(pairs(12), "label", batch_size=2)
    assert all(batch.reward.sum() * 2 == len(batch.reward) for item in data.train_dataloader() for batch in item)


def test_labels_that_come_in_blocks_are_mixed(build):
    blocks = [{"prompt": f"Q{i}", "completion": " a", "label": i < 30} for i in range(60)]
    data = build(blocks, "label", batch_size=10)
    assert {float(batch.reward.sum()) for (batch,) in data.train_dataloader()} <= {4.0, 5.0, 6.0}
    assert "labels: 30 desirable, 30 undesirable" in data.report.text()


def test_flat_rows_are_grouped_by_their_prompt(build):
    flat = [{"prompt": f"Q{i % 2}", "completion": f" {i}", "reward": i} for i in range(6)]
    data = build(flat, "gap")
    assert rows(data) == ["train.jsonl:1,3,5", "train.jsonl:2,4,6"]
    assert [[pair.gap for pair in group.pairs] for group in data.groups("train")] == [[2.0, 4.0, 2.0]] * 2


def test_a_format_that_lacks_what_the_loss_reads_is_refused(build):
    with pytest.raises(
        InputError,
        match="the format is messages .* and the loss reads pairs. Formats that have them: preference; scored",
    ):
        build([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    with pytest.raises(InputError, match="the format is prompts .* and the loss reads completions"):
        build([{"prompt": "a", "answer": "b"}], "demonstration")


def test_chat_data_are_written_by_the_tokenizer_s_template(build):
    chat = byte_tokenizer(specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    data = build(pairs(2), tokenizer=chat, as_messages=True)
    group = data.groups("train")[0]
    assert chat.decode(group.prompt_ids) == "<|im_start|>user\nQ0:<|im_end|>\n<|im_start|>assistant\n"
    assert "'<|im_end|>'" in data.stop_set.text() and "template" in data.report.stop_set


def test_only_the_last_turn_is_trained_when_asked(build):
    turns = [
        {"role": role, "content": text}
        for role, text in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    ]
    tokenizer = byte_tokenizer()
    whole, last = (
        build([{"messages": turns}], "demonstration", tokenizer=tokenizer, turns=turns_) for turns_ in ("all", "last")
    )
    assert tokenizer.decode(last.groups("train")[0].completions[0]) == " d<eos>"
    assert tokenizer.decode(whole.groups("train")[0].completions[0]).startswith(" b<eos>")


# ---- every row is accounted for


WRONG = [
    *pairs(6),
    '{"prompt": ',
    "",
    {"prompt": "Q", "chosen": 3, "rejected": "b"},
    {"prompt": "Q", "chosen": " same", "rejected": " same"},
    {"prompt": "E", "chosen": "", "rejected": " b"},
]


def test_wrong_rows_are_named_and_counted(build):
    with pytest.raises(InputError) as error:
        build(WRONG)
    sentence = str(error.value)
    assert sentence.startswith("data: 2 of 10 rows are wrong (20.00%), and data.tolerate is 0:")
    assert (
        "train.jsonl:7: no JSON" in sentence
        and "train.jsonl:9: column chosen: found 3, expected text or a list of messages" in sentence
    )


def test_tolerated_rows_are_in_the_report_and_nothing_is_lost(build):
    report = build(WRONG, tolerate=0.2).report
    train = report.splits["train"]
    assert (train.rows, train.kept, dict(train.dropped)) == (11, 8, {"wrong": 2, "blank line": 1})
    assert train.rows == train.kept + sum(train.dropped.values())
    assert (train.ties, train.empties, train.pairs, train.completions) == (1, 1, 8, 16)
    assert [line.split(": ")[0] for line in report.wrong] == ["train.jsonl:7", "train.jsonl:9"]


LONG = [
    *pairs(4),
    {"prompt": "x" * 50, "chosen": " a", "rejected": " b"},
    {"prompt": "y", "chosen": " " + "b" * 50, "rejected": " c"},
]


def test_rows_that_are_too_long_are_refused_by_default(build):
    with pytest.raises(
        InputError,
        match=r"2 of 6 rows are too long(?s:.*)train.jsonl:5: prompt and completion have 50 \+ 3 tokens",
    ):
        build(LONG, max_length=20)


@pytest.mark.parametrize(
    ("overflow", "kept", "cut"), [("drop", 4, 0), ("truncate_prompt_left", 5, 1), ("truncate_completion_right", 5, 1)]
)
def test_every_overflow_policy_counts_what_it_cuts_and_drops(build, overflow, kept, cut):
    train = build(LONG, max_length=20, overflow=overflow).report.splits["train"]
    assert (train.rows, train.kept, train.truncated, train.dropped.get("too long")) == (6, kept, cut, 6 - kept)
    assert train.prompt_lengths.most + 1 <= 20


def test_the_tokenizer_s_own_limit_holds_where_none_is_given(build):
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 20
    with pytest.raises(InputError, match="max_length is 20"):
        build(LONG, tokenizer=tokenizer)


def test_the_report_counts_what_the_source_s_clip_drops(build):
    mine = [{"prompt": f"Q{i}", "completion": [" a", " b", " c"], "reward": [0.0, 1.0, 0.5]} for i in range(3)]
    mine.append({"prompt": "Q9", "completion": [" a", " b"], "reward": [0.0, 1.0]})
    train = build(mine, source_clip=(0.0, 1.0)).report.splits["train"]
    assert (train.kept, train.pairs, train.clipped_pairs, dict(train.dropped)) == (
        3,
        6,
        4,
        {"every pair at the source's clip": 1},
    )


# ---- splits and mixtures


def test_a_split_is_the_same_for_every_algorithm_tokenizer_and_order(build):
    held = [
        sorted(group.prompt_ids.tobytes() for group in build(rows_, signal, split=0.25, seed=seed).groups("val"))
        for rows_, signal, seed in [
            (pairs(20), "preference", 0),
            (pairs(20)[::-1], "demonstration", 1),
            (pairs(20), "label", 2),
        ]
    ]
    assert held[0] == held[1] == held[2] and len(held[0]) == 5


def test_folds_hold_out_every_row_once(build):
    seen = [row for fold in range(4) for row in rows(build(pairs(20), split=0.25, fold=fold), "val")]
    assert sorted(seen) == sorted(f"train.jsonl:{i}" for i in range(1, 21))


def test_train_and_held_out_rows_share_no_prompt(build):
    twice = [*pairs(10), *pairs(10)]
    data = build(twice, split=0.3)
    sides = [{bytes(group.prompt_ids) for group in data.groups(split)} for split in ("train", "val")]
    assert not sides[0] & sides[1] and len(data.groups("val")) == 6


def test_validation_and_test_rows_of_their_own(build):
    data = build(pairs(4), validation=pairs(3, 10), test=pairs(2, 20))
    assert (len(data.groups("train")), len(data.groups("val"))) == (4, 3)
    data.setup("test")
    data.setup("predict")
    assert rows(data, "test") == rows(data, "predict") == ["test.jsonl:1", "test.jsonl:2"]
    assert set(data.report.splits) == {"train", "val", "test", "predict"}


def test_what_is_asked_for_and_not_given_is_named(build):
    data = build(pairs(4))
    with pytest.raises(InputError, match="data.test: names nothing"):
        data.setup("test")


def test_a_weighted_mixture_repeats_the_smaller_source_and_says_so(build, tmp_path):
    first, second = (
        write(tmp_path / f"{name}.jsonl", rows_) for name, rows_ in (("a", pairs(12)), ("b", pairs(3, 50)))
    )
    data = build([Source(first, weight=1.0), Source(second, weight=1.0)])
    found = rows(data)
    assert len(found) == 24 and found.count("b.jsonl:1") == 4 and found.count("a.jsonl:1") == 1
    assert (data.report.splits["train"].repeated, data.report.splits["train"].kept) == (9, 15)


def test_sources_may_have_columns_and_formats_of_their_own(build, tmp_path):
    first = write(tmp_path / "a.jsonl", pairs(2))
    second = write(tmp_path / "b.jsonl", [{"q": "Q", "out": [{"t": " a", "r": 1}, {"t": " b", "r": 2}]}])
    data = build([Source(first), Source(second, columns={"prompt": "q", "completion": "out[].t", "reward": "out[].r"})])
    assert rows(data) == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]
    assert [line.split(": ")[1].split(" ")[0] for line in data.report.sources] == ["preference", "scored"]


# ---- storage


FLAT = [{"prompt": f"Q{i % 5}", "completion": f" {i}", "reward": i} for i in range(10)]


@pytest.mark.parametrize("mine", [pairs(5), FLAT], ids=["pairs", "flat"])
def test_what_was_tokenised_is_read_again_and_another_composition_reads_its_own(mine, build, tmp_path, monkeypatch):
    from lit_rlhf.data.tokenisation import Tokenisation

    path = write(tmp_path / "mine.jsonl", mine)
    build(path)
    calls = []
    original = Tokenisation.__call__
    monkeypatch.setattr(
        Tokenisation, "__call__", lambda self, records: calls.append(len(records)) or original(self, records)
    )
    first = build(path)
    assert calls == [] and len(first.groups("train")) == 5
    first.attach(Composition(NEEDS["demonstration"], first.tokenizer))
    first.setup("fit")
    assert sum(calls) == 5 and len(first.groups("train")[0].completions) == 1
    build(path, max_length=500)
    assert sum(calls) == 10


def test_a_changed_file_is_read_again(build):
    assert len(build(pairs(5)).groups("train")) == 5
    assert len(build(pairs(6)).groups("train")) == 6


@pytest.mark.parametrize("signal", ["preference", "gap", "reward", "label", "demonstration"])
def test_a_group_is_stored_and_read_without_a_change(build, signal):
    turn = {"role": "assistant", "content": "b", "weight": 0.5}
    responses = [
        {"text": [turn], "reward": 0.5, "label": True},
        {"text": [{"role": "assistant", "content": "c"}], "reward": 2.0, "label": 1},
    ]
    row = {"prompt": [{"role": "user", "content": "a"}], "responses": responses, "weight": 2}
    data = build([row], signal)
    found = data.groups("train")[0]
    preparation, _, _ = data.recipe.of(data.sources["train"][0], tables(data.sources["train"][0], data.cache_dir))
    (outcome,) = preparation([("train.jsonl:1", row)])
    for name in ("rewards", "labels", "pairs", "row", "weight"):
        assert getattr(found, name) == getattr(outcome.group, name), name
    assert found.prompt_ids.tolist() == outcome.group.prompt_ids.tolist()
    for name in ("completions", "token_weights"):
        assert [part.tolist() for part in getattr(found, name)] == [
            part.tolist() for part in getattr(outcome.group, name)
        ]
    assert found.weight == 2.0 and found.token_weights[0].max() == 0.5


# ---- under a Trainer


class Probe(LightningModule):
    """Notes the rows of the items it is given."""

    needs, automatic_optimization = NEEDS["preference"], False

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer, self.items_done, self.seen = byte_tokenizer(), 0, {"train": [], "val": []}

    def training_step(self, item, index):
        self.seen["train"] += self.trainer.datamodule.rows(self.items_done)
        self.items_done += 1

    def validation_step(self, item, index):
        self.seen["val"] += self.trainer.datamodule.rows(index, "val")

    def configure_optimizers(self):
        return None


def test_a_trainer_gets_every_row_once_per_epoch(tmp_path):
    data = Files(write(tmp_path / "a.jsonl", pairs(20)), split=0.25, batch_size=4, cache_dir=str(tmp_path / "cache"))
    module = Probe()
    fit(module, data, max_epochs=2, num_sanity_val_steps=0)
    assert len(module.seen["train"]) == 30 and len(module.seen["val"]) == 10
    assert {row: module.seen["train"].count(row) + module.seen["val"].count(row) for row in set(sum(module.seen.values(), []))} == {
        f"a.jsonl:{index}": 2 for index in range(1, 21)
    }


def test_text_and_messages_may_stand_in_one_file(build):
    chat = {"prompt": [{"role": "user", "content": "Q"}], "chosen": "a", "rejected": "b"}
    tokenizer = byte_tokenizer()
    data = build([*pairs(1), chat], tokenizer=tokenizer)
    assert [tokenizer.decode(group.prompt_ids) for group in data.groups("train")] == ["Q0:", "User: Q\n\nAssistant:"]


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"split": 1.0}, "data.split: 1.0, expected a share from 0 to 1"),
        ({"split": 0.2, "fold": 5}, "data.fold: 5, expected 0 to 4"),
        ({"fold": 1}, "data.fold: 1, expected 0 to 0"),
        ({"tolerate": -1}, "data.tolerate: -1"),
        ({"max_length": 1}, "data.max_length: 1, expected 2 or more"),
        ({"split": 0.1, "validation": "b.jsonl"}, "both split and validation are given"),
        ({"format": "pairs"}, "data.format: pairs, expected preference"),
        ({"columns": {"promt": "q"}}, "data.columns.promt: no format has this column"),
        ({"train": []}, "data.train: nothing, expected a file"),
        ({"streaming": True, "split": 0.1}, "data.split: a stream has no known end"),
        ({"batch_size": 0}, "data.batch_size: 0"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        Files(**({"train": "a.jsonl"} | arguments))


def test_a_tokenizer_of_the_data_s_own(tmp_path):
    byte_tokenizer("yes").save_pretrained(tmp_path / "tokenizer")
    data = Files(
        write(tmp_path / "a.jsonl", pairs(2)), tokenizer=str(tmp_path / "tokenizer"), cache_dir=str(tmp_path / "cache")
    )

    class WithoutTokenizer:
        needs = NEEDS["preference"]

    data.attach(WithoutTokenizer())
    data.setup("fit")
    assert "yes" in data.tokenizer.get_vocab() and len(data.groups("train")) == 2
    with pytest.raises(InputError, match="data.tokenizer: .*nowhere cannot be read"):
        Files("a.jsonl", tokenizer=str(tmp_path / "nowhere")).attach(WithoutTokenizer())


def test_generation_settings_beside_the_tokenizer_join_the_stop_set(tmp_path):
    tokenizer = byte_tokenizer(specials=("<stop>",))
    stop = tokenizer.convert_tokens_to_ids("<stop>")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [tokenizer.eos_token_id, stop]})
    )
    data = Files("a.jsonl", tokenizer=str(tmp_path / "model"))
    data.attach(Composition(NEEDS["preference"], None))
    assert stop in data.stop_set and "generation config" in data.stop_set.text()


def test_a_default_run_prints_nothing(build, capfd):
    build(pairs(3))
    assert capfd.readouterr() == ("", "")
