"""Reward models: the score, where it is taken, and that it is the same once saved and read again."""

import json

import pytest
import torch
from components.tiny import config, make_run, model, rows, sequences, spread, states
from tokens import byte_tokenizer

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reward import RewardModel, is_classifier
from lit_rlhf.errors import InputError


def reward(name="llama", **options):
    torch.manual_seed(3)
    found = RewardModel(LanguageModel(config=config(name), **options))
    found.build()
    spread(found)
    return found


def scores(source, **options):
    found = RewardModel(LanguageModel(str(source), **options))
    found.build(frozen=True)
    return found.score(sequences())


def test_the_score_is_taken_at_the_last_completion_token():
    found = reward()
    last = torch.stack([row[-1] for row in states(found.model.net, sequences())])
    torch.testing.assert_close(found.score(sequences()), last @ found.head.weight[0], atol=1e-5, rtol=1e-4)


def test_a_fresh_head_scores_zero_and_everything_is_trained():
    found = RewardModel(LanguageModel(config=config()), lr=1.0)
    found.build()
    assert torch.equal(found.score(sequences()), torch.zeros(5))
    spread(found)
    found.score(sequences()).square().sum().backward()
    assert all(weight.grad is not None for weight in found.parameters())
    assert {name.split(".")[0] for name in found.state_dict()} == {"model", "head"}


@pytest.mark.parametrize(
    ("name", "options", "classes"),
    [
        ("llama", {}, True), ("qwen3", {}, True), ("gpt2", {}, True), ("cohere", {}, False),
        ("llama", {"lora": LoRA(rank=2)}, True),
    ],
)
def test_saved_and_read_again(name, options, classes, tmp_path):
    from transformers import AutoModelForSequenceClassification

    found = reward(name, **options)
    expected = found.score(sequences()).detach()
    found.save(tmp_path / "saved")
    torch.testing.assert_close(scores(tmp_path / "saved"), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.score(sequences()), expected, atol=0, rtol=0)
    assert is_classifier(tmp_path / "saved") is classes
    assert (tmp_path / "saved" / "reward_head.safetensors").exists() is not classes
    if classes:
        net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
        own = torch.cat([net(input_ids=torch.cat(row)[None]).logits[0] for row in rows(sequences())])
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)


def test_large_models_are_read_from_their_shard(tmp_path):
    found = reward()
    found.save(tmp_path / "saved")
    from transformers import AutoModelForSequenceClassification

    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    net.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    torch.testing.assert_close(scores(tmp_path / "shards"), found.score(sequences()))


def test_a_classifier_of_transformers_pools_where_we_do_in_padded_batches(tmp_path):
    """Its pad token is told apart from the one that ends completions: else it would take the state before that."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    byte_tokenizer(bos="<bos>").save_pretrained(tmp_path / "tokenizer")  # its pad is its eos
    found = RewardModel(LanguageModel(config=config(vocab_size=300), tokenizer=str(tmp_path / "tokenizer")))
    found.build()
    spread(found)
    found.save(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert found.tokenizer.pad_token == "<eos>" and tokenizer.pad_token == "<bos>"
    texts = ["a<eos>", "abcd<eos>"]
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    whole = net(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0]
    alone = []
    for text in texts:
        ids = torch.tensor(tokenizer(text)["input_ids"])
        given = type(sequences())(ids[:1], torch.tensor([1]), ids[1:], torch.tensor([len(ids) - 1]), torch.tensor([0]))
        alone.append(found.score(given))
    torch.testing.assert_close(whole, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_a_run_that_trained_one(tmp_path):
    for name, options in (("plain", {}), ("adapted", {"lora": LoRA(rank=2)})):
        found = reward(**options)
        run = make_run(tmp_path / name, "reward", found)
        torch.testing.assert_close(scores(run), found.score(sequences()), atol=1e-5, rtol=1e-4)


def test_a_policy_gives_a_trunk_with_a_fresh_head(tmp_path):
    policy = Actor(model())
    policy.build()
    run = make_run(tmp_path / "run", "actor", policy)
    policy.save(tmp_path / "saved")
    for source in (run, tmp_path / "saved"):
        assert torch.equal(scores(source), torch.zeros(5))


def test_a_frozen_one_trains_nothing(tmp_path):
    reward().save(tmp_path / "saved")
    found = RewardModel(LanguageModel(str(tmp_path / "saved"), dtype="bfloat16"))
    found.build(frozen=True)
    assert not any(weight.requires_grad for weight in found.parameters())
    assert found.score(sequences()).dtype == torch.float32


def test_several_labels_are_refused(tmp_path):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    settings = {key: value for key, value in config().items() if key != "model_type"}
    LlamaForSequenceClassification(LlamaConfig(**settings, num_labels=3)).save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="has 3 labels; a reward model has one"):
        RewardModel(str(tmp_path / "three")).build()
