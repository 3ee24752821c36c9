"""Folders that are whole or not there, and their cards."""

import pytest
import torch
from components.tiny import config, model

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.saving import card, merged, new_folder, origin_of, savable_generation
from lit_rlhf.errors import InputError


def test_a_folder_is_whole_or_not_there(tmp_path):
    target = tmp_path / "deep" / "model"
    with pytest.raises(ZeroDivisionError), new_folder(target) as folder:
        (folder / "half").touch()
        raise ZeroDivisionError
    assert not list(target.parent.iterdir())
    with new_folder(target) as folder:
        (folder / "file").touch()
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["model"] and (target / "file").exists()


def test_what_a_killed_process_left_is_replaced(tmp_path):
    left = tmp_path / ".model.partial"
    left.mkdir()
    (left / "old").touch()
    with new_folder(tmp_path / "model") as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty"):
        pass
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for name in ("file", "full"):
        with pytest.raises(InputError, match=f"{name}: exists already"), new_folder(tmp_path / name):
            raise AssertionError


def test_merging_makes_fresh_tensors():
    found = model(lora=LoRA(rank=2, alpha=3.0, target_modules=["q_proj"]))
    layer = found.base.model.layers[0].self_attn.q_proj
    kept = layer.base_layer.weight.clone()
    whole = merged(found.net)
    factors = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(whole.model.layers[0].self_attn.q_proj.weight, kept + 3 / 2 * factors)
    assert torch.equal(layer.base_layer.weight, kept) and found.base.model.layers[0].self_attn.q_proj is layer


def test_a_saved_model_has_a_card(tmp_path):
    model(lora=LoRA(rank=2)).save(tmp_path / "adapted")
    text = (tmp_path / "adapted" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n") and "# adapted\n" in text
    assert "- class: LlamaForCausalLM" in text and "adapters of rank 2, merged" in text and "random weights" in text
    model().save(tmp_path / "other", card="mine")
    assert (tmp_path / "other" / "README.md").read_text() == "mine"


def test_a_card_names_a_base_of_the_hub_alone(tmp_path):
    assert "base_model: org/name\n" in card("t", {}, base="org/name")
    for base in (None, "runs/x", str(tmp_path), "./a/b", "lit_rlhf/reviews"):
        assert "base_model" not in card("t", {}, base=base)
    text = card("title", {"fact": "value"}, {"Data": "| table |"})
    assert "# title\n\n- fact: value\n- written by: " in text and text.endswith("\n## Data\n\n| table |\n")


def test_a_description_has_no_weights_and_says_where_the_model_came_from(tmp_path):
    model().save(tmp_path / "base")
    found = LanguageModel(str(tmp_path / "base"), lora=LoRA(rank=2))
    found.build()
    found.save_description(tmp_path / "described")
    names = {path.name for path in (tmp_path / "described").iterdir()}
    assert {"config.json", "adapter_config.json", "origin.json"} <= names
    assert not any("safetensors" in name for name in names)
    assert origin_of(tmp_path / "described") == str(tmp_path / "base")
    drawn = LanguageModel(config=config())
    drawn.build(head=False)
    drawn.save_description(tmp_path / "trunk")
    assert origin_of(tmp_path / "trunk") is None


def test_the_configuration_keeps_its_dropout(tmp_path):
    import json

    found = LanguageModel(config=config("gpt2", resid_pdrop=0.3))
    found.build()
    assert found.net.config.resid_pdrop == 0.0
    found.save(tmp_path / "saved")
    found.save_description(tmp_path / "described")
    for name in ("saved", "described"):
        assert json.loads((tmp_path / name / "config.json").read_text())["resid_pdrop"] == 0.3


@pytest.mark.parametrize("settings", [{"temperature": 0.6}, {"top_p": 0.9, "early_stopping": True}])
def test_generation_settings_that_transformers_refuses_to_save(settings, tmp_path):
    found = model()
    found.net.generation_config.update(do_sample=False, eos_token_id=[1, 7], **settings)
    found.generation_config = savable_generation(found.net)
    found.generation_config.save_pretrained(tmp_path)
    assert found.stop_ids == (1, 7)
