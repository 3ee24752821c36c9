"""The curriculum: right answers, one place for every problem, demonstrations that end in the answer."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_rlhf.data.modules import Files
from lit_rlhf.rewards.answers import final_answer, stated_answer

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_arithmetic = tool("make_arithmetic")


EVERY = ("--levels", "1", "2", "3", "4", "5", "6")


def made(folder, *options):
    make_arithmetic.main([str(folder), "--train", "80", "--validation", "20", *options])
    return {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return made(tmp_path_factory.mktemp("arithmetic") / "out", *EVERY)


def terms(row):
    return tuple(map(int, re.findall(r"[+-]?\d+", row["prompt"])))


def test_answers_are_those_of_the_problems(files):
    for row in files["train"] + files["validation"]:
        assert re.fullmatch(r"\d+([+-]\d+){1,2}=", row["prompt"])
        assert int(row["answer"]) == sum(terms(row)) >= 0


def test_no_problem_is_there_twice_or_on_both_sides_in_any_order(files):
    sides = [[tuple(sorted(terms(row))) for row in files[name]] for name in ("train", "validation")]
    prompts = [row["prompt"] for name in ("train", "validation") for row in files[name]]
    assert len(set(prompts)) == len(prompts) > 400
    assert not set(sides[0]) & set(sides[1]) and sides[1]


def test_levels_are_what_the_page_says(files):
    longest = {1: 1, 2: 1, 3: 2, 4: 2, 5: 1, 6: 2}
    for row in files["train"]:
        found, level = terms(row), row["level"]
        assert len(found) == (3 if level > 4 else 2)
        assert max(len(str(abs(term))) for term in found) <= longest[level]
        assert level > 4 or (found[1] < 0) == (level in (2, 4))
        assert all(sum(found[:end]) >= 0 for end in (1, 2, 3))
    counts = [sum(row["level"] == level for row in files["train"]) for level in range(1, 7)]
    assert counts[2:] == [80] * 4 and 0 < counts[1] <= 45 and counts[0] <= 80


def test_a_used_up_level_gives_all_it_has():
    (train, validation) = make_arithmetic.curriculum([1, 2], 2, 10_000, 10_000, share=0.2, seed=3)
    assert len(train) + len(validation) == 100 + 45  # a + b; a - b with 9 >= a >= b >= 1
    assert {problem.held_out(0.2, 3) for problem in validation} == {True}


def test_demonstrations_are_worked_training_problems_that_the_reward_calls_right(files):
    answers = {row["prompt"]: row["answer"] for row in files["train"]}
    for row in files["demonstrations"]:
        assert final_answer(row["completion"]).agrees(stated_answer(answers[row["prompt"]]))
        first, *rest = row["completion"].split("=")
        assert not rest or sum(terms({"prompt": first})) == int(rest[0])
        assert len(rest) == (row["level"] > 4)
    for level in range(1, 7):
        train, shown = (sum(row["level"] == level for row in files[name]) for name in ("train", "demonstrations"))
        assert shown == round(train / 4)


def test_one_seed_makes_one_curriculum(files, tmp_path):
    assert made(tmp_path / "again", *EVERY) == files
    other = made(tmp_path / "other", *EVERY, "--seed", "1")
    assert {row["prompt"] for row in other["validation"]} != {row["prompt"] for row in files["validation"]}


def test_levels_and_digits_are_chosen(tmp_path):
    files = made(tmp_path / "out", "--levels", "6", "3", "--digits", "4", "--demonstrated", "0")
    assert {row["level"] for row in files["train"]} == {3, 6} and files["demonstrations"] == []
    assert max(len(str(term)) for row in files["train"] for term in terms(row) if term > 0) == 4


def test_the_files_are_data_for_both_stages_in_single_bytes(tmp_path):
    folder, start = tmp_path / "out", tmp_path / "start"
    made(folder, "--levels", "1", "6")
    tool("make_start").main([str(start), str(folder / "train.jsonl"), "--vocabulary", "257", "--width", "64", "--layers", "1"])
    for file, needs in (("train", {"prompt"}), ("demonstrations", set())):
        data = Files(str(folder / f"{file}.jsonl"), tokenizer=str(start), cache_dir=str(tmp_path / "cache"))
        data.attach(SimpleNamespace(needs=frozenset(needs), tokenizer=None, max_new_tokens=16, context=64))
        data.setup("fit")
        group = data.groups("train")[len(data.groups("train")) - 1]
        assert data.tokenizer.convert_ids_to_tokens(group.prompt_ids.tolist()) == list(data.tokenizer.decode(group.prompt_ids))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--digits", "0"], "--digits 0: expected 1 or more"),
        (["--demonstrated", "1.5"], "--demonstrated 1.5: expected a share"),
        (["--held-out", "0"], "--held-out 0.0: expected a share between 0 and 1"),
        (["--levels", "7"], "invalid choice: 7"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, capsys, options, sentence):
    with pytest.raises(SystemExit) as stopped:
        made(tmp_path / "out", *options)
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_not_written_over(tmp_path, capsys):
    made(tmp_path / "out")
    with pytest.raises(SystemExit):
        made(tmp_path / "out")
    assert "name a new folder" in capsys.readouterr().err
