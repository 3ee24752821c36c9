"""What the README shows is run as it stands, on less data."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from tokens import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from lit_rlhf.data.reviews import Reviews

README = Path(__file__).parents[1] / "README.md"
SHORT = ("--trainer.max_steps=2", "--data.batch_size=8")
SMALL = (*SHORT, "--data.size=16", "--data.val_size=4")


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in this language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    """The arguments of every `python -m lit_rlhf` line, in order."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[3:] for line in lines if line.startswith("python -m lit_rlhf")]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty directory, the head of the README in `my_heads.py`, pairs, and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (head,) = (block for block in blocks("python") if "class ExponentialPreference" in block)
    Path("my_heads.py").write_text(head)
    (reward,) = (block for block in blocks("python") if "def brevity" in block)
    Path("my_rewards.py").write_text(reward)
    Path("prompts.jsonl").write_text("\n".join(json.dumps({"prompt": f"{n}?"}) for n in range(16)))
    rows = [{"prompt": f"{n}?", "chosen": " yes", "rejected": " no"} for n in range(16)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = byte_tokenizer()
    words.save_pretrained("YOUR/MODEL")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=64, **shape)).save_pretrained("YOUR/MODEL")
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    """Modules of these names in other directories, and then those of this one."""
    for name in ("my_heads", "my_rewards"):
        sys.modules.pop(name, None)


def shortened(arguments: list[str]) -> list[str]:
    """A command that takes two updates."""
    if arguments[0] not in ("fit", "validate", "predict"):
        return arguments
    return [*arguments, *(SHORT if "--data=Files" in arguments else SMALL)]


def test_the_commands_run_in_their_order(elsewhere):
    from lit_rlhf.__main__ import main

    for arguments in commands():
        assert main(shortened(arguments)) == 0, arguments
    runs = {path.name for path in Path("runs").iterdir()}
    assert {"mine", "dpo", "dpo-2", "ppo", "grpo"} <= runs
    assert Path("runs/mine/predictions.jsonl").read_text().count("\n") > 0
    assert Path("policy/model.safetensors").exists()


def test_the_blocks_of_python_run(elsewhere, monkeypatch):
    few = Reviews.__init__
    monkeypatch.setattr(Reviews, "__init__", lambda self, **given: few(self, **{"batch_size": 8, "val_size": 8} | given | {"size": 16}))
    scope: dict = {}
    for block in blocks("python"):
        exec(compile(block.replace("max_steps=100", "max_steps=2"), str(README), "exec"), scope)
    assert torch.isfinite(scope["total"])
    head, h = scope["ExponentialPreference"], torch.linspace(-3, 3, 601)
    for p in (0.2, 0.5, 0.9):
        losses = p * (-h / 2).exp() + (1 - p) * (h / 2).exp()
        assert float(h[losses.argmin()]) == pytest.approx(float(torch.tensor(p).logit()), abs=0.011)
    assert head().unit == "pair"


def test_the_algorithm_in_yaml_is_the_committed_one():
    from omegaconf import OmegaConf

    (shown,) = map(OmegaConf.create, blocks("yaml"))
    committed = OmegaConf.load(README.with_name("configs") / "custom.yaml")
    assert _plain(shown.model.init_args.loss) == _plain(committed.model.init_args.loss)
    assert shown.model.class_path == committed.model.class_path


def _plain(node):
    """The tree with class names alone."""
    if hasattr(node, "items"):
        return {key: value.rpartition(".")[2] if key == "class_path" else _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if hasattr(node, "append") else node


def test_every_folder_and_file_of_the_map_is_there():
    named = re.findall(r"\]\((?!http)([^)]+)\)", README.read_text(encoding="utf-8"))
    assert named and [name for name in named if not (README.parent / name).exists()] == []


def test_the_tools_that_are_named_are_there():
    tools = re.search(r"\| \[tools\].*", README.read_text(encoding="utf-8"))[0]
    for name in re.findall(r"`([a-z_]+)`", tools):
        assert list((README.parent / "tools").glob(f"{name}*")), name


def test_the_two_commands_are_executable():
    for name in ("fit", "test", "environment"):
        assert (README.parent / "tools" / name).stat().st_mode & 0o111
