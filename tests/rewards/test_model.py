"""Reward models that score what another model wrote."""

import json
from types import SimpleNamespace

import pytest
import torch
from components.tiny import config, make_run, spread
from rewards.given import response
from tokens import CHATML, byte_tokenizer

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.data.modules import Files
from lit_rlhf.errors import InputError
from lit_rlhf.rewards.model import ModelReward

TEXTS = [{"prompt": f"Question {n}:", "chosen": " yes, indeed" * n, "rejected": " no"} for n in range(1, 4)]
CHATS = [
    {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": row["prompt"]}]}
    | {name: [{"role": "assistant", "content": row[name].strip()}] for name in ("chosen", "rejected")}
    for row in TEXTS
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Saved reward models, by how they write conversations."""
    root, made = tmp_path_factory.mktemp("models"), {}
    for name, template in (("plain", None), ("chatml", CHATML)):
        tokenizer = byte_tokenizer(bos="<s>", specials=("<|im_start|>", "<|im_end|>"), template=template)
        tokenizer.save_pretrained(root / "t" / name)
        torch.manual_seed(3)
        model = RewardModel(LanguageModel(config=config(vocab_size=300), tokenizer=str(root / "t" / name)))
        model.build()
        spread(model)
        model.save(root / name)
        made[name] = str(root / name)
    return made


def built(source, **options):
    reward = ModelReward(source, **options)
    reward.build()
    return reward


def of(row, name):
    text = row[name] if isinstance(row[name], str) else row[name][0]["content"]
    return response(text, row["prompt"] if isinstance(row["prompt"], str) else tuple(row["prompt"]))


def fitted(reward, rows, path, **arguments):
    """What `fit` computes of rows: the scores of its batch, chosen and rejected."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Files(str(path), batch_size=len(rows), cache_dir=str(path.parent / "cache"), **arguments)
    data.attach(SimpleNamespace(needs=frozenset({"chosen", "rejected"}), tokenizer=reward.model.tokenizer))
    data.setup("fit")
    found = []
    for batch in next(iter(data.train_dataloader())):
        scores = reward.model.score(batch.sequences).detach()
        found += zip(scores[batch.chosen].tolist(), scores[batch.rejected].tolist(), strict=True)
    return sorted(found)


@pytest.mark.parametrize("kind", ["plain", "chatml"])
@pytest.mark.parametrize(
    ("rows", "options"), [(TEXTS, {}), (TEXTS, {"as_messages": True}), (CHATS, {})], ids=["text", "as_messages", "chat"]
)
def test_a_score_is_that_of_the_same_row_in_training(kind, rows, options, folders, tmp_path):
    reward = built(folders[kind], **options)
    total = reward([of(row, name) for row in rows for name in ("chosen", "rejected")]).total
    found = sorted((float(one), float(other)) for one, other in total.reshape(-1, 2))
    expected = fitted(reward, rows, tmp_path / "rows.jsonl", **options)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-5, rtol=1e-4)
    assert len({round(value, 3) for pair in found for value in pair}) > 3


def test_the_policy_s_tokens_and_the_space_around_its_words_are_not_read(folders):
    reward = built(folders["chatml"])
    row = CHATS[0]
    one = response("yes", tuple(row["prompt"]), ids=(1, 2))
    other = response("\n yes ", tuple(row["prompt"]), ids=(9,), finished=False)
    assert torch.equal(*reward([one, other]).total)


def test_a_template_of_its_own(folders):
    given = [of(CHATS[0], "chosen")]
    expected = built(folders["chatml"])(given).total
    torch.testing.assert_close(built(folders["plain"], chat_template=CHATML)(given).total, expected)
    assert not torch.equal(built(folders["plain"])(given).total, expected)


def test_scale_and_shift(folders):
    responses = [of(row, "chosen") for row in TEXTS]
    score = built(folders["plain"])(responses).total
    torch.testing.assert_close(built(folders["plain"], scale=3.0, shift=0.5)(responses).total, 3 * (score - 0.5))


def test_micro_batches_and_the_other_responses_change_nothing(folders):
    responses = [of(row, name) for row in TEXTS + CHATS for name in ("rejected", "chosen")]
    whole = built(folders["chatml"])(responses).total
    for size in (2, 64):
        small = built(folders["chatml"], micro_batch_tokens=size)
        torch.testing.assert_close(small(responses).total, whole, atol=1e-5, rtol=1e-4)


def test_what_is_too_long_loses_the_beginning_of_its_prompt_and_is_counted(folders):
    reward = built(folders["plain"], max_length=10)  # with <s> before and <eos> after
    given = [response("yes", "abcdef"), response("yes", "abcde"), response("yes", "a"), response("far too long", "a")]
    found = reward(given)
    cut, whole, short, none = found.total.tolist()
    assert cut == pytest.approx(float(reward([response("yes", "bcdef")]).total), abs=1e-5) and whole != cut != short
    assert none != none
    assert [(part.name, part.values.tolist()) for part in found.parts] == [("truncated", [1.0, 0.0, 0.0, 1.0])]
    limited = built(folders["plain"], max_prompt_length=3)
    assert float(limited(given[:1]).total) == pytest.approx(float(reward([response("yes", "ef")]).total), abs=1e-5)


def test_the_model_s_context_is_the_limit_where_none_is_given(folders):
    reward = ModelReward(folders["plain"])
    assert reward.limits.max_length == reward.model.model.origin.configuration().max_position_embeddings


def test_it_is_frozen_and_nothing_of_it_is_in_a_state(folders):
    reward = built(folders["plain"])
    assert not any(weight.requires_grad for weight in reward.model.parameters()) and not reward.model.training
    assert not isinstance(reward, torch.nn.Module)
    before = torch.random.get_rng_state()
    built(folders["plain"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_run_that_trained_one_and_one_that_did_not(folders, tmp_path):
    reward = built(folders["chatml"])
    run = make_run(tmp_path / "run", "reward", reward.model)
    responses = [of(row, "chosen") for row in CHATS]
    torch.testing.assert_close(built(run)(responses).total, reward(responses).total)
    policy = Actor(LanguageModel(config=config(vocab_size=300), tokenizer=folders["plain"]))
    policy.build()
    with pytest.raises(InputError, match="trained no reward model, but actor"):
        ModelReward(make_run(tmp_path / "policy", "actor", policy)).check()
    policy.save(tmp_path / "saved")
    with pytest.raises(InputError, match="has no trained head: every response would score 0"):
        ModelReward(str(tmp_path / "saved")).build()


def test_settings_out_of_range_and_prompts_that_cannot_be_written_are_refused(folders):
    with pytest.raises(InputError, match="ModelReward.max_length is 1, expected 2 or more"):
        ModelReward(folders["plain"], max_length=1)
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    with pytest.raises(InputError, match="rows.jsonl:1: the chat template refuses the messages: no system here"):
        built(folders["chatml"], chat_template=strict)([of(CHATS[0], "chosen")])
