"""Spans of trained turns, found in templates of every manner."""

import numpy as np
import pytest
from tokens import CHATML, byte_tokenizer

from lit_rlhf.data.records import Completion, Record, RowError
from lit_rlhf.data.templates import ChatTemplate
from lit_rlhf.data.tokenisation import Tokenisation
from lit_rlhf.errors import InputError

TEMPLATES = {  # what a template writes: (Jinja, terminator of a turn)
    "chatml": (CHATML, "<|im_end|>"),
    "header": (
        "{{ bos_token }}{% for m in messages %}{{ '<|head|>' + m.role + '<|/head|>\n\n'"
        " + m.content | trim + '<|eot|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}",
        "<|eot|>",
    ),
    "instruction": (
        "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' <eos>' }}{% endif %}{% endfor %}",
        "<eos>",
    ),
    "renamed roles": (
        "{% for m in messages %}{{ '<|turn|>' + ('model' if m.role == 'assistant' else m.role)"
        " + '\n' + m.content + '<|/turn|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|turn|>model\n' }}{% endif %}",
        "<|/turn|>",
    ),
    "two closing tokens": (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ '<eos>' }}{% endif %}",
        "<|end|>",
    ),
    "system prompt of its own": (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" + CHATML,
        "<|im_end|>",
    ),
    "generation prompt that opens a thought": (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}",
        "<|end|>",
    ),
    "only the last reply has a thought": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n'"
        " + ('<think></think>' if loop.last and m.role == 'assistant' else '')"
        " + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
    ),
    "no closing token": (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        None,
    ),
}
SPECIALS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|head|>",
    "<|/head|>",
    "<|eot|>",
    "<|turn|>",
    "<|/turn|>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
)


def messages(*texts):
    roles = ("user", "assistant")
    return tuple({"role": roles[index % 2], "content": text} for index, text in enumerate(texts))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_trained_tokens_are_the_replies_with_their_terminators(name):
    template, end = TEMPLATES[name]
    tokenizer = byte_tokenizer(bos="<s>", specials=SPECIALS, template=template)
    conversation = messages("Hi there?", "Hello.", "And you?", "Fine, thanks.")
    (found,) = Tokenisation(tokenizer)([Record(conversation[:1], (Completion(conversation[1:]),))])
    group = found.group
    weights = np.ones(len(group.completions[0])) if group.token_weights is None else group.token_weights[0]
    trained = tokenizer.decode(group.completions[0][weights > 0].tolist()).replace("<think></think>", "")
    closing = end or "<eos>"
    expected = ["Hello." + (end or ""), "Fine, thanks." + closing]
    assert "".join(trained.split()) == "".join("".join(expected).split())
    assert tokenizer.decode(group.completions[0][-1:]) == closing  # nothing after the last terminator


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_is_what_the_model_is_given_when_it_is_asked(name):
    template, _ = TEMPLATES[name]
    tokenizer = byte_tokenizer(bos="<s>", specials=SPECIALS, template=template)
    conversation = messages("Hi there?", "Hello.")
    (found,) = Tokenisation(tokenizer)([Record(conversation[:1], (Completion(conversation[1:]),))])
    asked = tokenizer.apply_chat_template(list(conversation[:1]), tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(found.group.prompt_ids) == asked.replace("<think>\n", "").rstrip(
        " " * (name == "instruction")
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_alone_is_written_as_it_is_before_the_reply(name):
    template, _ = TEMPLATES[name]
    tokenizer = byte_tokenizer(bos="<s>", specials=SPECIALS, template=template)
    conversation = messages("Hi there?", "Hello.", "And you?", "Fine, thanks.")
    whole, alone = Record(conversation[:3], (Completion(conversation[3:]),)), Record(conversation[:3], ())
    trained, asked = Tokenisation(tokenizer)([whole, alone])
    assert asked.group.prompt_ids.tolist() == trained.group.prompt_ids.tolist()
    assert asked.group.completions == () and asked.group.record.prompt == conversation[:3]


def test_arguments_reach_the_template_and_a_file_replaces_it(tmp_path):
    tokenizer = byte_tokenizer(template=CHATML)
    path = tmp_path / "template.jinja"
    path.write_text("{{ date }}{% for m in messages %}[{{ m.content }}]{% endfor %}")
    template = ChatTemplate(tokenizer, str(path), {"date": "Monday"})
    assert template.render(messages("a", "b")) == "Monday[a][b]" and template.source == "data.chat_template"
    assert tokenizer.chat_template == CHATML


def test_content_in_parts_is_written_by_the_plain_template():
    template = ChatTemplate(byte_tokenizer())
    assert (
        template.render([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])
        == "User: ab"
    )


def test_a_template_that_refuses_is_quoted():
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}" + CHATML
    found = ChatTemplate(byte_tokenizer(template=template))
    with pytest.raises(RowError, match="the chat template refuses the messages: no system messages"):
        found.render([{"role": "system", "content": "x"}])


def test_a_template_without_the_assistant_s_words_is_refused():
    with pytest.raises(InputError, match="the assistant's words are not in"):
        ChatTemplate(
            byte_tokenizer(
                template="{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
            )
        )


def test_a_missing_template_file_is_named():
    with pytest.raises(InputError, match="data.chat_template: nowhere.jinja: neither Jinja nor a file"):
        ChatTemplate(byte_tokenizer(), "nowhere.jinja")


def test_a_template_that_rewrites_what_came_before_is_a_wrong_row():
    rewriting = "{{ messages | length }}{% for m in messages %}{{ m.content }}<eos>{% endfor %}"
    tokenizer = byte_tokenizer(template=rewriting)
    conversation = messages("a", "b", "c", "d")
    (error,) = Tokenisation(tokenizer)([Record(conversation[:1], (Completion(conversation[1:]),))])
    assert isinstance(error, RowError) and "writes what precedes message 1 differently" in str(error)


def test_a_completion_needs_a_trained_turn():
    untrained = ({"role": "assistant", "content": "b", "weight": 0},)
    (error,) = Tokenisation(byte_tokenizer())([Record(messages("a"), (Completion(untrained),))])
    assert "no turn of the assistant is trained" in str(error)
