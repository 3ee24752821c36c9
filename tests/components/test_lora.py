"""Adapters: nothing at the start, what is trained, what is refused."""

import pytest
import torch
from components.tiny import config, model, sequences

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.errors import InputError


def test_fresh_adapters_change_nothing():
    torch.manual_seed(0)
    plain = LanguageModel(config=config())
    plain.build()
    torch.manual_seed(0)
    adapted = LanguageModel(config=config(), lora=LoRA(rank=3))
    adapted.build()
    assert torch.equal(adapted.token_logps(sequences()).values, plain.token_logps(sequences()).values)


def test_only_adapters_are_trained():
    found = model(lora=LoRA(rank=3, target_modules=["q_proj"]))
    trained = {name: tuple(weight.shape) for name, weight in found.net.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 2 and all("q_proj.lora_" in name for name in trained)
    assert set(trained.values()) == {(3, 16), (16, 3)}


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_the_scale(rslora, scale):
    found = model(lora=LoRA(rank=4, alpha=6, rslora=rslora, target_modules=["q_proj"]))
    layer = found.base.model.layers[0].self_attn.q_proj
    states = torch.randn(3, 16)
    factors = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(layer(states), states @ (layer.base_layer.weight + scale * factors).T)


def test_all_linear_leaves_the_output_head_out():
    found = model(lora=LoRA(rank=2))
    trained = [name for name, weight in found.net.named_parameters() if weight.requires_grad]
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_trunk_can_have_adapters():
    found = LanguageModel(config=config(), lora=LoRA(rank=2))
    found.build(head=False)
    found.last_hidden(sequences()).sum().backward()
    assert any(weight.grad is not None for weight in found.parameters())


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (LoRA(target_modules=["lm_head"]), "output head cannot have adapters"),
        (LoRA(target_modules=["no_such_layer"]), "LoRA.target_modules: .*no_such_layer"),
    ],
)
def test_impossible_targets(lora, message):
    with pytest.raises(InputError, match=message):
        LanguageModel(config=config(), lora=lora).build()


@pytest.mark.parametrize("options", [{"rank": 0}, {"dropout": 1.0}])
def test_impossible_settings(options):
    with pytest.raises(InputError, match="rank is at least 1 and dropout in"):
        LoRA(**options)
