"""The sentences of the report: those that apply, with what to do, and no others."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from tokens import byte_tokenizer

from lit_rlhf.data import gathering
from lit_rlhf.data.coverage import PairGraph, coverage
from lit_rlhf.data.findings import details, findings, share
from lit_rlhf.data.identification import identification, scores
from lit_rlhf.data.modules import Files
from lit_rlhf.data.records import Group, Pair


def group(prompt, responses, *pairs, rewards=None):
    completions = tuple(np.array([response]) for response in responses)
    return Group(np.array([prompt]), completions, rewards=rewards, pairs=tuple(Pair(*pair) for pair in pairs))


def found(*groups, signal="preference"):
    graph = PairGraph.of(groups)
    return findings(signal, coverage(graph), identification(graph), scores(groups), len(groups))


@pytest.mark.parametrize(("groups", "short", "remedy"), [
    ([group(1, (1, 2), (0, 1))], "100% of the prompts have one pair with one certain label", "stop early, smooth"),
    ([group(1, (1, 2, 3), (0, 1), (1, 2))], "responses that labels put above others for sure", "not strongly connected"),
    ([group(1, range(3), (0, 1, 0.7), (1, 2, 0.7), (2, 0, 0.7))], "cycles", "compromise"),
    ([group(1, (1, 2), (0, 1, 0.8)), group(1, (1, 2), (1, 0, 0.8))], "two labels of one disagree in 100%", "nothing can be learned"),
    ([group(1, (1, 2), (0, 1))] * 4 + [group(1, (1, 2), (1, 0))], "1 pairs repeat", "flip_rate"),
    ([group(1, (1, 2), (0, 1, 0.5))], "100% of the pairs are ties", "pull margins to 0"),
    ([group(1, range(4), (0, 1, 0.6), (2, 3, 0.6))], "no chain of pairs connects", "add pairs that join them"),
])
def test_each_finding_stands_alone_with_what_to_do(groups, short, remedy):
    (only,) = found(*groups)
    assert short in only.short and remedy in only.remedy and only.whole.startswith(only.short)


@pytest.mark.parametrize(("rewards", "short"), [((1.0,), "one response"), ((1.0, 1.0), "equal reward")])
def test_scored_responses_without_differences_are_named(rewards, short):
    (only,) = found(group(1, range(len(rewards)), rewards=rewards), signal="reward")
    assert short in only.short


def test_good_data_have_no_finding():
    assert found(group(1, range(3), (0, 1, 0.7), (1, 2, 0.6), (0, 2, 0.8))) == ()
    assert found(group(1, (1, 2), rewards=(0.0, 1.0)), signal="reward") == ()


def test_labels_do_not_matter_where_differences_are_read():
    assert found(group(1, (1, 2), (0, 1, 1.0, 2.0)), signal="gap") == ()


def test_at_most_five_are_told_and_rare_ones_are_not():
    every = [
        group(1, (1, 2), (0, 1)), group(2, range(3), (0, 1), (1, 2)), group(3, range(3), (0, 1), (1, 2), (2, 0)),
        group(4, (1, 2), (0, 1)), group(4, (1, 2), (1, 0)), group(5, range(4), (0, 1, 0.5), (2, 3, 0.5)),
        group(5, range(4), (0, 1, 0.5), (2, 3, 0.5)), group(6, (1,), rewards=(1.0,)),
    ]
    assert len(found(*every)) == 5
    soft = [group(prompt, (1, 2), (0, 1, 0.7)) for prompt in range(2, 300)]
    assert found(group(1, (1, 2), (0, 1)), *soft) == ()


def test_a_sample_is_called_one():
    groups = [group(prompt, (1, 2), (0, 1)) for prompt in range(9)]
    graph = PairGraph.of(groups, 5)
    (only,) = findings("preference", coverage(graph), identification(graph), None, 9)
    assert only.short.startswith("the first 5 rows: 100%")
    assert dict(details(identification(graph), None, 9))["finite optimum"].startswith("the first 5 rows: ")


def test_a_share_is_neither_nothing_of_something_nor_all_of_less():
    assert [share(*part) for part in ((0, 9), (9, 9), (1, 10**6), (10**6 - 1, 10**6), (1, 3), (1, 100), (0, 0))] == [
        "0%", "100%", "under 0.1%", "over 99.9%", "33%", "1.0%", "0%",
    ]


# ---- in the report of files


def written(tmp_path, rows, needs, **arguments):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Files(str(path), cache_dir=str(tmp_path / "cache"), **arguments)
    data.attach(SimpleNamespace(needs=frozenset(needs), tokenizer=byte_tokenizer()))
    data.setup("fit")
    return data.report


def test_the_printed_report_is_short_and_the_written_one_whole(tmp_path):
    report = written(tmp_path, [{"prompt": f"{n}:", "chosen": " yes", "rejected": " no"} for n in range(4)], {"chosen"})
    (only,) = report.findings("train")
    assert f"    finding: {only.short}\n" in report.text() and only.remedy not in report.text()
    assert f"- finding (train): {only.whole}." in report.markdown()
    assert "| support | a response is compared 1 times at least" in report.markdown() and "support" not in report.text()
    assert json.loads(json.dumps(report.as_dict()))["splits"]["train"]["identification"]["single_certain"] == 4


def test_scored_rows_say_what_each_family_sees(tmp_path):
    rows = [{"prompt": f"{n}:", "responses": [{"text": " a", "reward": 0.0}, {"text": " b", "reward": 1.0}]} for n in range(3)]
    for needs in ({"reward"}, {"chosen", "reward_gap"}):
        text = written(tmp_path, rows, needs).markdown()
        assert "| RA sees | 6 rewards, 2.0 to a prompt, 2.0 of them distinct" in text
        assert "| RDA sees | 3 differences in 100% of the prompts, 0% of them 0" in text
        assert "preferred with probability 0.73" in text


def test_large_files_are_looked_at_in_part_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(gathering, "_TOGETHER", 3)
    report = written(tmp_path, [{"prompt": f"{n}:", "chosen": " yes", "rejected": " no"} for n in range(8)], {"chosen"})
    assert "finding: the first 3 rows: 100% of the prompts" in report.text()
    assert dataclasses.asdict(report)["splits"]["train"]["identification"]["rows"] == 3
