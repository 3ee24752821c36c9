"""Recipes: every one builds, those of public models are stepped on a tiny random model of the same class."""

import json
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from omegaconf import OmegaConf
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from tokens import CHATML, byte_tokenizer

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"
ALL = sorted(path for path in RECIPES.glob("*/*.yaml") if path.parent.name != "udrra")
"""Those of `udrra` read no file; tests/tools/test_udrra.py has them."""
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
SUMS = [(a, b) for a in range(5) for b in range(4)]
"""Sums of one digit, which random bytes hit now and then."""
MODELS = {
    "qwen3_0.6b": lambda size: Qwen3ForCausalLM(Qwen3Config(vocab_size=size, head_dim=8, tie_word_embeddings=True, **TINY)),
    "llama3_8b": lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, tie_word_embeddings=False, **TINY)),
}


def said(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]


def rows(recipe):
    """A few rows in the layout of the recipe's public data set."""
    if recipe.parent.name == "alpaca_scored":
        return [
            {"prompt": f"Say {n}.", "responses": [
                {"generator": str(k), "text": f"{n}" * (k + 1), "win_probability": (1e-6, 0.2, 0.6)[k % 3]} for k in range(11)
            ]} for n in range(20)
        ]
    if recipe.parent.name == "arithmetic":
        return [{"prompt": f"{a}+{b}=", "answer": f"{a + b}", "completion": f"{a + b}", "level": 1} for a, b in SUMS]
    if recipe.parent.name == "qwen3_0.6b" and recipe.stem == "grpo":
        return [{"question": f"{a} and {b}?", "answer": f"They are <<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}"} for a, b in SUMS]
    if recipe.parent.name == "hh_harmless":
        return [{"chosen": f"\n\nHuman: {n}?\n\nAssistant: yes", "rejected": f"\n\nHuman: {n}?\n\nAssistant: no no"} for n in range(20)]
    if recipe.stem == "sft":
        return [{"prompt": f"{n}?", "prompt_id": str(n), "messages": said(f"{n}?", "yes", "really?", "no")} for n in range(20)]
    return [
        {"prompt": f"{n}?", "prompt_id": str(n), "chosen": said(f"{n}?", "yes"), "rejected": said(f"{n}?", "no no"),
         "messages": said(f"{n}?", "yes"), "score_chosen": 8.0, "score_rejected": 2.0 + n % 3} for n in range(20)
    ]


def scorer():
    """A reward model whose head is not 0, saved."""
    from lit_rlhf.components.reward import RewardModel

    model = RewardModel("start")
    model.build()
    torch.nn.init.normal_(model.head.weight)
    model.save("scorer")


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """A recipe on its rows and a tiny model, its model and its data."""
    from lit_rlhf.cli import build

    monkeypatch.chdir(tmp_path)

    def compose(recipe):
        words = byte_tokenizer(eos="<|im_end|>", specials=("<|im_start|>",), template=CHATML)
        torch.manual_seed(0)
        words.save_pretrained("start")
        MODELS.get(recipe.parent.name, MODELS["llama3_8b"])(len(words)).save_pretrained("start")
        Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows(recipe))))
        tree = OmegaConf.to_container(OmegaConf.load(recipe), resolve=False)
        given = {"start": "start", "data": "rows.jsonl", "held_out": "rows.jsonl", "reward": "scorer"}
        small = {"data.batch_size": 4, "data.micro_batch_tokens": 512, "data.cache_dir": str(tmp_path / "cache")}
        small |= {f"vars.{name}": given[name] for name in tree["vars"]}
        small |= {} if "held_out" in tree["vars"] else {"data.split": 0.2}
        small |= {"model.sampler.max_new_tokens": 48} if "sampler" in tree["model"]["init_args"] else {}
        if "reward" in tree["vars"] and not Path("scorer").exists():
            scorer()
        return build(["--config", str(recipe), *(f"--{key}={value}" for key, value in small.items())])

    return compose


@pytest.mark.parametrize("recipe", ALL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_takes_two_steps_and_validates(recipe, composed):
    algorithm, data = composed(recipe)
    trainer = Trainer(
        max_steps=2, val_check_interval=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )
    data.attach(algorithm)
    algorithm.configure_model()
    (_, part), *_ = algorithm.parts
    before = [weight.detach().clone() for weight in part.parameters() if weight.requires_grad]
    trainer.fit(algorithm, data)
    assert trainer.global_step == 2
    after = [weight for weight in part.parameters() if weight.requires_grad]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(torch.isfinite(weight).all() for weight in after)
    assert len(data.groups("val")) > 0


@pytest.mark.parametrize("recipe", ALL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_names_the_run_by_its_path_and_starts_from_one_that_is_there(recipe):
    tree = OmegaConf.to_container(OmegaConf.load(recipe), resolve=False)
    assert tree["run"] == f"{recipe.parent.name}/{recipe.stem}"
    before = {f"runs/{path.parent.name}/{path.stem}" for path in ALL} | {"runs/start", "runs/arithmetic_start"}
    for name in {"start", "reward"} & tree["vars"].keys():
        assert not tree["vars"][name].startswith("runs/") or tree["vars"][name] in before
    assert "/work" not in recipe.read_text() and "${vars.data}" in recipe.read_text()


def test_the_four_losses_on_scored_responses_differ_in_loss_and_labels_alone():
    trees = []
    for name in ("pra", "rda", "ra", "dpo"):
        tree = OmegaConf.to_container(OmegaConf.load(RECIPES / "alpaca_scored" / f"{name}.yaml"), resolve=False)
        assert tree.pop("run") == f"alpaca_scored/{name}"
        assert tree["model"]["init_args"].pop("loss")["init_args"]["tau"] == 0.1
        tree["data"]["init_args"].pop("labels", None)
        trees.append(tree)
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("folder", ["hh_harmless", "alpaca_scored"])
def test_recipes_of_a_folder_hold_out_the_same_prompts(folder, composed):
    held_out = {}
    for recipe in sorted((RECIPES / folder).glob("*.yaml")):
        algorithm, data = composed(recipe)
        data.attach(algorithm)
        data.setup("fit")
        held_out[recipe.stem] = {group.row.rpartition(":")[2] for group in data.groups("val")}
        assert not held_out[recipe.stem] & {group.row.rpartition(":")[2] for group in data.groups("train")}
    assert all(rows == held_out["sft"] and rows for rows in held_out.values())
