"""A run's model as a folder that transformers loads alone."""

import pytest
import torch
from components.tiny import config, dense, make_run, model, sequences, spread
from tokens import byte_tokenizer

from lit_rlhf.commands import export as command
from lit_rlhf.commands.export import export, main
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.errors import InputError


@pytest.fixture
def policy(tmp_path):
    """A policy with a tokenizer of its own and two ids that stop it."""
    byte_tokenizer("hello").save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    found = Actor(LanguageModel(config=config("gemma2", vocab_size=300), tokenizer=str(tmp_path / "tokenizer")))
    found.build()
    spread(found)
    found.model.generation_config.eos_token_id = [1, 7]
    return found


def loaded(folder):
    """Log-probs by transformers alone."""
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return net, dense(net, sequences()).gather(1, sequences().completion_ids[:, None])[:, 0]


def test_a_policy(policy, tmp_path, capsys):
    from transformers import AutoTokenizer

    run = make_run(tmp_path / "run", "actor", policy)
    main([run, str(tmp_path / "out")])
    printed, errors = capsys.readouterr()
    assert "out: written, read again and compared with" in printed and not errors
    net, logps = loaded(tmp_path / "out")
    torch.testing.assert_close(logps, policy.token_logps(sequences()).values, atol=1e-5, rtol=1e-4)
    assert net.generation_config.eos_token_id == [1, 7]
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == policy.tokenizer.get_vocab()
    assert {"model.safetensors", "README.md"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_the_checkpoint_that_is_named(policy, tmp_path):
    best = Actor(model("gemma2", seed=1))
    run = make_run(tmp_path / "run", "actor", best, best=Actor(model("gemma2", seed=2)))
    export(f"{run}:last", tmp_path / "last")
    torch.testing.assert_close(loaded(tmp_path / "last")[1], best.token_logps(sequences()).values, atol=1e-5, rtol=1e-4)
    export(run, tmp_path / "best")
    assert (loaded(tmp_path / "best")[1] - best.token_logps(sequences()).values).abs().max() > 0.1


def test_half_precision(policy, tmp_path):
    run = make_run(tmp_path / "run", "actor", policy)
    assert 0 < export(run, tmp_path / "out", dtype="bfloat16") < 0.25
    assert {weight.dtype for weight in loaded(tmp_path / "out")[0].parameters()} == {torch.bfloat16}


def adapted(tmp_path):
    """A run of adapters over a saved model."""
    model().save(tmp_path / "base")
    found = Actor(LanguageModel(str(tmp_path / "base"), lora=LoRA(rank=2)))
    found.build()
    spread(found)
    return make_run(tmp_path / "run", "actor", found), found.token_logps(sequences()).values


def test_adapters_merged_and_alone(tmp_path):
    run, expected = adapted(tmp_path)
    export(run, tmp_path / "merged")
    export(run, tmp_path / "alone", adapter=True)
    for name in ("merged", "alone"):
        torch.testing.assert_close(loaded(tmp_path / name)[1], expected, atol=2e-5, rtol=1e-4)
        again = LanguageModel(str(tmp_path / name))
        again.build()
        torch.testing.assert_close(again.token_logps(sequences()).values, expected, atol=2e-5, rtol=1e-4)
        assert all(weight.requires_grad for weight in again.parameters())
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert "adapter_model.safetensors" in names and "model.safetensors" not in names
    assert f"started from: {tmp_path / 'base'}" in (tmp_path / "alone" / "README.md").read_text()


def test_adapters_alone_need_adapters_over_a_folder(policy, tmp_path):
    run = make_run(tmp_path / "run", "actor", policy)
    with pytest.raises(InputError, match="there is no adapter to write"):
        export(run, tmp_path / "out", adapter=True)
    over = Actor(LanguageModel(run, lora=LoRA(rank=2)))
    over.build()
    with pytest.raises(InputError, match=r"this is the actor over .*run"):
        export(make_run(tmp_path / "over", "actor", over), tmp_path / "out", adapter=True)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["llama", "cohere"])
def test_a_reward_model(name, tmp_path):
    torch.manual_seed(1)
    found = RewardModel(LanguageModel(config=config(name)))
    found.build()
    spread(found)
    export(make_run(tmp_path / "run", "reward", found), tmp_path / "out")
    again = RewardModel(str(tmp_path / "out"))
    again.build()
    torch.testing.assert_close(again.score(sequences()), found.score(sequences()), atol=1e-5, rtol=1e-4)


def test_the_card(policy, tmp_path):
    curves = {"RunSummary": {"curves": {"train/loss": [0.7, 0.5, 0.25]}}, "Other": {}}
    run = make_run(tmp_path / "run", "actor", policy, global_step=12, callbacks=curves)
    (tmp_path / "run" / "data.md").write_text("12 rows kept")
    (tmp_path / "run" / "config.yaml").write_text("seed_everything: 3")
    export(run, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for expected in (
        "# out\n", f"- run: {run}\n", "- checkpoint: last.ckpt, after 12 updates\n", "- started from: random weights\n",
        "| train/loss | 0.7 | 0.25 |\n", "## Data\n\n12 rows kept\n", "```yaml\nseed_everything: 3\n```",
    ):
        assert expected in text


def test_nothing_is_overwritten(policy, tmp_path):
    run = make_run(tmp_path / "run", "actor", policy)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(InputError, match="out: exists already"):
        export(run, tmp_path / "out")


def test_a_folder_that_says_something_else_is_not_kept(policy, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "actor", policy)
    monkeypatch.setattr(command, "_logps", lambda folder, few: torch.zeros(len(few.completion_ids)))
    with pytest.raises(RuntimeError, match="read again, the model is"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_mistakes(tmp_path, capsys):
    model().save(tmp_path / "folder")
    with pytest.raises(InputError, match="a folder with a model is one already"):
        export(str(tmp_path / "folder"), tmp_path / "out")
    with pytest.raises(InputError, match="no such run"):
        export(f"{tmp_path}/none:last", tmp_path / "out")
    with pytest.raises(InputError, match="leave out --dtype"):
        export(make_run(tmp_path / "run", "actor", Actor(model())), tmp_path / "out", adapter=True, dtype="bfloat16")
    with pytest.raises(SystemExit) as stopped:
        main(["one"])
    assert stopped.value.code == 2 and "OUT" in capsys.readouterr().err
