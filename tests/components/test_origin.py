"""Every source of a model gives the same log-probs again, and what cannot be read is said in a sentence."""

import json

import pytest
import torch
from components.tiny import SHARED, config, dense, make_run, model, sequences
from tokens import byte_tokenizer
from torch import nn

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reading import BUILT_IN
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.errors import InputError


def actor(found):
    """The built model as a part."""
    part = Actor(found)
    part.build()
    return part


def logps(source, **options):
    found = LanguageModel(str(source), **options)
    found.build(frozen=True)
    return found.token_logps(sequences()).values


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2", "qwen3_moe", "minicpm3"])
def test_a_run_gives_what_it_trained(name, tmp_path):
    trained, best = actor(model(name)), actor(model(name, seed=1))
    run = make_run(tmp_path / "run", "actor", trained, best)
    expected = [part.token_logps(sequences()).values for part in (trained, best)]
    torch.testing.assert_close(logps(f"{run}:last"), expected[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(logps(run), expected[1], atol=1e-6, rtol=1e-6)
    assert (expected[0] - expected[1]).abs().max() > 0.1


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}, {"target_modules": ["q_proj", "down_proj"]}])
def test_a_run_with_adapters_gives_the_merged_model(options, tmp_path):
    trained = actor(model(lora=LoRA(rank=2, **options)))
    run = make_run(tmp_path / "run", "actor", trained)
    torch.testing.assert_close(logps(run), trained.token_logps(sequences()).values, atol=2e-5, rtol=1e-4)
    merged = LanguageModel(run)
    merged.build()
    assert all(weight.requires_grad for weight in merged.parameters())
    again = LanguageModel(run, lora=LoRA(rank=2))  # new adapters on top
    again.build()
    torch.testing.assert_close(again.token_logps(sequences()).values, logps(run))


def test_a_folder_gives_what_was_saved(tmp_path):
    for name, lora in (("qwen3", None), ("llama", LoRA(rank=2))):
        found = model(name, lora=lora)
        before = {key: value.clone() for key, value in found.state_dict().items()}
        found.save(tmp_path / name)
        torch.testing.assert_close(logps(tmp_path / name), found.token_logps(sequences()).values, atol=2e-5, rtol=1e-4)
        assert all(torch.equal(value, before[key]) for key, value in found.state_dict().items())


def test_a_trunk_comes_from_any_part_and_a_policy_from_an_actor_alone(tmp_path):
    run = make_run(tmp_path / "policy", "actor", actor(model()))
    trunk = LanguageModel(run)
    trunk.build(head=False)
    whole = LanguageModel(run)
    whole.build()
    assert torch.equal(trunk.last_hidden(sequences()), whole.last_hidden(sequences()))
    reward = RewardModel(LanguageModel(config=config()))
    reward.build()
    scored = make_run(tmp_path / "reward", "reward", reward)
    trunk = LanguageModel(scored)
    trunk.build(head=False)
    assert torch.equal(trunk.last_hidden(sequences()), reward.model.last_hidden(sequences()))
    with pytest.raises(InputError, match="1 weights of LlamaForCausalLM are missing, lm_head.weight first"):
        LanguageModel(scored).build()


def test_a_run_keeps_tokenizer_and_stop_ids(tmp_path):
    byte_tokenizer("hello").save_pretrained(tmp_path / "tokenizer")
    found = LanguageModel(config=config(vocab_size=300), tokenizer=str(tmp_path / "tokenizer"))
    found.build()
    found.generation_config.eos_token_id = [1, 7]
    run = make_run(tmp_path / "run", "actor", actor(found))
    again = LanguageModel(run)
    again.build(frozen=True)
    assert again.stop_ids == (1, 7)
    assert again.tokenizer.get_vocab() == found.tokenizer.get_vocab()


def test_a_random_start_takes_its_special_ids_from_the_tokenizer(tmp_path):
    tokenizer = byte_tokenizer("hello", bos="<bos>")
    tokenizer.save_pretrained(tmp_path)
    given = {name: value for name, value in SHARED.items() if not name.endswith("_id") and name != "vocab_size"}
    found = LanguageModel(config={"model_type": "llama", **given}, tokenizer=str(tmp_path))
    found.build()
    assert found.net.get_input_embeddings().num_embeddings == len(tokenizer)
    assert found.stop_ids == (tokenizer.eos_token_id,) and found.net.config.bos_token_id == tokenizer.bos_token_id


def test_config_over_a_source_is_a_random_start_of_its_class(tmp_path):
    saved = model("gemma2")
    saved.save(tmp_path / "saved")
    drawn = LanguageModel(str(tmp_path / "saved"), config={"num_hidden_layers": 1})
    drawn.build()
    assert len(drawn.net.model.layers) == 1 and drawn.source is None
    assert drawn.form == saved.form
    assert not torch.equal(drawn.net.model.embed_tokens.weight, saved.net.model.embed_tokens.weight)


@pytest.mark.parametrize("name", BUILT_IN)
def test_shipped_models(name):
    found = LanguageModel(name)
    found.build(frozen=True)
    given = sequences(17)
    expected = dense(found.net, given).gather(1, given.completion_ids[:, None])[:, 0]
    torch.testing.assert_close(found.token_logps(given).values, expected, atol=1e-5, rtol=1e-5)
    assert len(found.tokenizer) == 17


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "no_such_class"}))
    for name in ("empty", "odd"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read as a folder: [^\n]*$"):
            LanguageModel(str(tmp_path / name)).build()
    with pytest.raises(InputError, match="no_such_class: cannot be read"):
        LanguageModel(config={"model_type": "no_such_class"}).build()
    for without, said in ((LanguageModel(config=config()), "has none of its own"),
                          (LanguageModel(str(tmp_path / "odd")), "has none of its own"),
                          (LanguageModel(str(tmp_path / "empty")), "empty: the folder has no config.json")):
        with pytest.raises(InputError, match=said):
            _ = without.tokenizer


def test_pickled_weights_are_not_read(tmp_path):
    found = model()
    found.net.config.save_pretrained(tmp_path)
    torch.save(found.net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read as a folder"):
        LanguageModel(str(tmp_path)).build()


def test_another_models_weights_are_refused(tmp_path):
    from safetensors.torch import save_file

    found = model()
    found.net.config.save_pretrained(tmp_path)
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="21 weights of LlamaForCausalLM are missing"):
        LanguageModel(str(tmp_path)).build()


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has 257 tokens and the model knows 23"):
        LanguageModel(config=config(), tokenizer=str(tmp_path)).build()


def test_reading_prints_nothing(tmp_path, capfd):
    run = make_run(tmp_path / "run", "actor", actor(model(lora=LoRA(rank=2))))
    logps(run)
    model().save(tmp_path / "saved")
    trunk = nn.Module()
    trunk.model = LanguageModel(str(tmp_path / "saved"))
    trunk.model.build(head=False)
    assert capfd.readouterr() == ("", "")
