"""Policies side by side: a moved model of the built-in task against the shipped one, by exact numbers."""

import contextlib
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from commands.evaluation import made_up
from components.tiny import config, make_run
from matplotlib.image import imread
from tokens import byte_tokenizer

import lit_rlhf
from lit_rlhf.cli import main as command_line
from lit_rlhf.commands.evaluate import main
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.config.places import find
from lit_rlhf.data import grammar
from lit_rlhf.errors import InputError

MADE_UP = made_up.__name__
BASE = "lit_rlhf/reviews"


def moved(seed):
    """The shipped model with other weights in its head."""
    actor = Actor(BASE)
    actor.build()
    head = actor.model.output_head.weight
    with torch.no_grad():
        head.add_(torch.randn(head.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.03)
    return actor


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with a run of PPO on the built-in task, its best checkpoint another than its last."""
    folder = tmp_path_factory.mktemp("place")
    make_run(folder / "runs" / "tuned", "actor", moved(0), best=moved(1), global_step=7)
    shutil.copy(find("ppo"), folder / "runs" / "tuned" / "config.yaml")
    with contextlib.chdir(folder):
        yield folder


def evaluated(*arguments, out):
    """The JSON and the lines of completions."""
    main([*arguments, f"--out={out}"])
    lines = [json.loads(line) for line in (Path(out) / "completions.jsonl").read_text().splitlines()]
    return json.loads((Path(out) / "evaluation.json").read_text()), lines


def near(estimate, exact):
    """Within four standard errors, by the width of the interval."""
    assert abs(estimate["value"] - exact) < 4 * (estimate["high"] - estimate["low"]) / 3.92, (estimate, exact)


@torch.no_grad()
def laws(source):
    """[X, Y] log pi(y | x) of all responses to all prompts."""
    model = LanguageModel(source)
    model.build(frozen=True)
    return torch.stack([law(model.net, grammar.encoded(prompt)) for prompt in grammar.PROMPTS])


def law(net, prompt):
    """[Y] by the tree of prefixes, in the order of `grammar.responses()`: none, one and two words before the last."""
    words, before, found = range(len(grammar.WORDS)), torch.zeros(1, dtype=torch.float64), []
    for length in range(grammar.MAX_WORDS):
        rows = torch.tensor([[*prompt, *prefix] for prefix in itertools.product(words, repeat=length)])
        nexts = before[:, None] + net(input_ids=rows).logits[:, -1].double().log_softmax(-1)
        found.append(nexts[:, len(words)])
        before = nexts[:, : len(words)].flatten()
    return torch.cat([*found, before])


def test_numbers_against_enumeration(place, capsys):
    found, _ = evaluated("runs/tuned:last", "--samples=6", "--data.val_size=256", out="exact")
    policy, base = laws("runs/tuned:last"), laws(BASE)
    reward = torch.stack([torch.from_numpy(grammar.rewards(prompt)) for prompt in grammar.PROMPTS])
    tuned, started = found["policies"]["runs/tuned:last"], found["policies"][BASE]
    torch.testing.assert_close(policy.logsumexp(1), torch.zeros(len(policy), dtype=torch.float64), atol=1e-9, rtol=0)
    assert found["baseline"] == BASE and found["prompts"] == 256 and found["notes"] == []
    near(tuned["reward"], float((policy.exp() * reward).sum(1).mean()))
    near(started["reward"], float((base.exp() * reward).sum(1).mean()))
    near(tuned["kl"], float((policy.exp() * (policy - base)).sum(1).mean()))
    assert started["kl"]["value"] == 0 and "win_rate" not in started and "gain" not in started
    values, place_of = torch.unique(reward, return_inverse=True)
    wins = []
    for law, other, at in zip(policy.exp(), base.exp(), place_of, strict=True):
        own, its = (torch.zeros(len(values), dtype=torch.float64).index_add(0, at, one) for one in (law, other))
        wins.append(float((own * (its.cumsum(0) - its / 2)).sum()))
    near(tuned["win_rate"], sum(wins) / len(wins))
    assert "256 prompts x 6 completions" in capsys.readouterr().out


def test_what_is_written_agrees(place, capsys):
    found, lines = evaluated("runs/tuned:best", "runs/tuned:last", "--limit=16", "--samples=2", out="three")
    assert {path.name for path in Path("three").iterdir()} == {
        "table.txt", "evaluation.json", "completions.jsonl", "measures.png", "frontier.png",
    }
    assert len(lines) == 3 * 16 * 2
    assert {line["policy"] for line in lines} == {"runs/tuned:best", "runs/tuned:last", BASE}
    assert found["checkpoints"]["runs/tuned:best"].endswith("best-val_loss.ckpt")
    assert "policy" in (Path("three") / "table.txt").read_text() and imread("three/frontier.png").shape[1] == 900
    order = [found["policies"][policy]["reward"]["value"] for policy in found["policies"]]
    assert order == sorted(order, reverse=True)
    for policy, measures in found["policies"].items():
        own = [line for line in lines if line["policy"] == policy]
        assert measures["reward"]["value"] == pytest.approx(sum(line["reward"] for line in own) / len(own))
        assert measures["kl"]["value"] == pytest.approx(sum(line["kl"] for line in own) / len(own))
        base = [line for line in lines if line["policy"] == BASE]
        for line, other in zip(own, base, strict=True):
            assert line["prompt"] == other["prompt"] and line["row"] == other["row"]
            gap = line["reward"] - other["reward"]
            assert policy == BASE or line["win"] == (1.0 if gap > 0 else 0.0 if gap < 0 else 0.5)


def test_the_batch_changes_nothing_and_the_seed_does(place):
    few = ("runs/tuned", "--limit=12", "--samples=2")
    _, lines = evaluated(*few, "--data.batch_size=64", out="whole")
    _, again = evaluated(*few, "--data.batch_size=5", "--data.micro_batch_tokens=16", out="parts")
    for line, other in zip(lines, again, strict=True):
        assert line["completion"] == other["completion"] and line["kl"] == pytest.approx(other["kl"], abs=1e-5)
    _, other = evaluated(*few, "--sampler.seed=1", out="seed")
    assert [line["completion"] for line in lines] != [line["completion"] for line in other]


def test_a_judge_sees_either_first(place):
    found, _ = evaluated("runs/tuned", f"--judge={MADE_UP}.LikesTheFirst", "--limit=8", "--samples=2", out="judge")
    assert found["policies"]["runs/tuned"]["win_rate"]["value"] == 0.5 and found["judge"] == "LikesTheFirst"


def test_another_baseline_and_temperature(place):
    found, _ = evaluated("runs/tuned:last", "--baseline=runs/tuned:best", "--temperature=0.5", "--limit=8", out="base")
    assert found["baseline"] == "runs/tuned:best" and set(found["policies"]) == {"runs/tuned:last", "runs/tuned:best"}
    assert "temperature 0.5" in found["sampler"] and "sampled with temperature 0.5" in found["notes"][0]


def byte_model(folder, *words):
    """A random model with a byte-level tokenizer in which these words are tokens."""
    torch.manual_seed(len(words))
    tokenizer = byte_tokenizer(*words)
    tokenizer.save_pretrained(folder / "tokenizer")
    shape = config(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    model = LanguageModel(config=shape, tokenizer=str(folder / "tokenizer"))
    model.build()
    model.save(folder / "model")
    return str(folder / "model")


def prompts_of(folder, *rows):
    """The option that names a file of these rows."""
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"--prompts={folder / 'p.jsonl'}", f"--data.cache_dir={folder}"


def test_policies_of_other_tokens_are_compared_as_text(place, tmp_path):
    rows = prompts_of(tmp_path, *({"prompt": f"{number} +", "answer": "Q"} for number in range(3)))
    one, two = byte_model(tmp_path / "one"), byte_model(tmp_path / "two", "hello", "there")
    found, lines = evaluated(one, two, *rows, f"--reward={MADE_UP}.Words", "--max_new_tokens=5", out=tmp_path / "out")
    assert found["baseline"] == one and "different tokens" in found["notes"][0]
    assert {"reward", "gain", "win_rate", "reward/half"} <= found["policies"][two].keys()
    assert "kl" not in found["policies"][two]
    assert [line["prompt"] for line in lines[::4]] == ["0 +", "1 +", "2 +"] * 2
    assert not (tmp_path / "out" / "frontier.png").exists()


def test_pass_at_k_and_columns_of_the_file(place, tmp_path):
    rows = prompts_of(tmp_path, {"prompt": "x", "answer": ""}, {"prompt": "y", "answer": "no such beginning"})
    model = byte_model(tmp_path / "one")
    found, _ = evaluated(model, *rows, f"--reward={MADE_UP}.Right", "--samples=2", out=tmp_path / "out")
    assert found["policies"][model]["pass@1"]["value"] == found["policies"][model]["pass@2"]["value"] == 0.5


def test_a_failure_leaves_nothing(place):
    with pytest.raises(LookupError):
        main(["runs/tuned", f"--reward={MADE_UP}.Broken", "--limit=4", "--out=broken"])
    assert not [path for path in Path().iterdir() if "broken" in path.name]


@pytest.mark.parametrize("arguments, sentence", [
    (["runs/tunde"], "POLICY runs/tunde: no such run; did you mean runs/tuned?"),
    (["runs/tuned", "--baseline=runs/x"], "--baseline runs/x: no such run"),
    (["runs/tuned", "--baseline=./x"], "--baseline ./x: no such folder"),
    (["runs/tuned", "--config=dpo"], "--reward: none is given, and"),
    ([BASE], "--config: none is given"),
    ([BASE, "--prompts=p.jsonl"], "--reward: none is given, and the command line has no model.reward"),
    ([BASE, f"--reward={MADE_UP}.Words", "--config=base/cpu"], "--prompts: none are given"),
    (["runs/tuned", "--prompts=empty.jsonl"], "empty.jsonl"),
    (["runs/tuned", "--prompts=p.jsonl", "--split=val"], "--split=val: --prompts takes the place of a split"),
    (["runs/tuned", "--data.val_size=0"], "--split=val: the configuration has no validation prompts"),
    (["runs/tuned", "--reward=ReviewRewrad"], "there is no Reward ReviewRewrad; did you mean ReviewReward"),
    (["runs/tuned", "--sampler.temprature=1"], "--sampler.temprature=1: NativeSampler has no argument temprature"),
    (["runs/tuned", "--max_new_tokens=0"], "max_new_tokens is 0"),
    (["runs/tuned", "--sampler.stop=[é]"], "stop"),
    (["runs/tuned", "--out=runs"], "--out=runs: exists already"),
    (["runs/tuned", "--device=warp"], "--device=warp: "),
])
def test_what_is_refused(place, arguments, sentence, capsys):
    Path("empty.jsonl").write_text("")
    assert command_line(["evaluate", *arguments]) == 2
    printed, errors = capsys.readouterr()
    assert sentence in errors and errors.count("\n") == 1 and "completions" not in printed


def test_a_reward_model_is_no_policy(place, tmp_path):
    from lit_rlhf.components.reward import RewardModel

    model = RewardModel(BASE)
    model.build()
    run = make_run(tmp_path / "runs" / "rm", "reward", model)
    with pytest.raises(InputError, match="trained a reward model, expected a policy"):
        main([run, "--config=ppo"])


def test_the_commands_of_the_page(place):
    """On fewer prompts, with the tuned model in the place of the runs that it names."""
    page = (Path(lit_rlhf.__file__).parent / "commands" / "README.md").read_text(encoding="utf-8")
    (block,) = (found for found in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "lit_rlhf evaluate" in found)
    for run in ("ppo", "dpo"):
        shutil.copytree("runs/tuned", f"runs/{run}")
    for line in block.splitlines():
        assert command_line([*shlex.split(line, comments=True)[3:], "--limit=8"]) == 0, line
    numbered = {path.parent.name for path in Path("runs/evaluations").glob("*/evaluation.json")}
    assert numbered == {"ppo", "ppo-best", "dpo", "dpo-2"}


def test_help(capsys):
    assert command_line(["evaluate", "--help"]) == 0
    assert "--baseline POLICY" in capsys.readouterr().out
