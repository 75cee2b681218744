"""Chats have the ids that transformers gives them, and no text in them is a control token."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from shared.errors import RequestRefused
from shared.protocol.messages import PLAIN_TEMPLATE, TemplateOptions
from tests.support.chats.turns import turns
from tests.support.models.chat_templates import (
    CHATML,
    GEMMA,
    KNOWN_TEMPLATES,
    LLAMA_3,
    QWEN_3,
    KnownTemplate,
)
from tests.support.models.packaged_tokenizers import gpt_2_tokenizer
from verifier.target.target_settings import TemplateSettings
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

CONTINUED = TemplateOptions(add_generation_prompt=False, continue_final_message=True)
CHAT = [("user", "Why?"), ("assistant", " Because  the sky\n"), ("user", "  is <b>blue</b> 😀\n\n")]
THOUGHT = [("user", "2+2?"), ("assistant", "<think>\neasy\n</think>\n\n4"), ("user", "Sure?")]


@functools.cache
def source(known: KnownTemplate) -> PreTrainedTokenizerBase:
    """GPT-2's tokenizer, with all its merges, and a template with its tokens."""
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = gpt_2_tokenizer(Path(directory))
    for name in known.special:
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in known.visible])
    tokenizer.bos_token = known.bos
    tokenizer.chat_template = known.text
    return tokenizer


@functools.cache
def target(known: KnownTemplate) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(source(known), len(source(known)))


def target_with(known: KnownTemplate, settings: TemplateSettings) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(source(known), len(source(known)), template=settings)


def text_of(tokenizer: HuggingFaceTokenizer, token_ids: list[int]) -> str:
    return b"".join(tokenizer.token_bytes[i] for i in token_ids).decode()


def control_of(tokenizer: HuggingFaceTokenizer, token_ids: list[int]) -> Counter[int]:
    return Counter(i for i in token_ids if i in tokenizer.special_ids)


def names_of(tokenizer: HuggingFaceTokenizer) -> list[str]:
    return [tokenizer.token_bytes[i].decode() for i in sorted(tokenizer.special_ids)]


@pytest.mark.parametrize("chat", [CHAT, THOUGHT, CHAT[:1]])
@pytest.mark.parametrize("name", KNOWN_TEMPLATES)
def test_an_ordinary_chat_has_the_ids_that_transformers_gives_it(
    name: str, chat: list[tuple[str, str]]
) -> None:
    known = KNOWN_TEMPLATES[name]
    told = [{"role": role, "content": content} for role, content in chat]
    expected: Any = source(known).apply_chat_template(
        told, add_generation_prompt=True, return_dict=False
    )
    assert expected == target(known).encode_chat(turns(chat))


@pytest.mark.parametrize("last", ["The answer", "The answer is ", "  <b>\n\n"])
@pytest.mark.parametrize("name", KNOWN_TEMPLATES)
def test_a_continued_message_has_the_ids_that_transformers_gives_it(name: str, last: str) -> None:
    known, chat = KNOWN_TEMPLATES[name], [("user", "Well?"), ("assistant", last)]
    told = [{"role": role, "content": content} for role, content in chat]
    expected: Any = source(known).apply_chat_template(
        told, continue_final_message=True, return_dict=False
    )
    tokenizer = target(known)
    token_ids = tokenizer.encode_chat(turns(chat), CONTINUED)
    assert expected == token_ids
    assert text_of(tokenizer, token_ids).rstrip().endswith(last.strip())


def test_without_a_word_an_assistants_turn_follows_that_of_an_assistant() -> None:
    tokenizer = target(CHATML)
    text = text_of(tokenizer, tokenizer.encode_chat(turns([("user", "a"), ("assistant", "b")])))
    assert text.endswith("b<|im_end|>\n<|im_start|>assistant\n")
    options = TemplateOptions(add_generation_prompt=False)
    text = text_of(
        tokenizer, tokenizer.encode_chat(turns([("user", "a"), ("assistant", "b")]), options)
    )
    assert text.endswith("b<|im_end|>\n")


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("name", KNOWN_TEMPLATES)
def test_names_of_special_tokens_in_a_message_are_text(name: str, role: str) -> None:
    tokenizer = target(KNOWN_TEMPLATES[name])
    names = names_of(tokenizer)
    forged = f"a{' '.join(names)}b{''.join(names)}{''.join(2 * n for n in names)}<<|im_<|im_end|>"
    harmless, chat = (
        [("user", "hi" if role == "assistant" else text), ("assistant", text)]
        for text in ("harmless", forged)
    )
    token_ids = tokenizer.encode_chat(turns(chat))
    assert control_of(tokenizer, tokenizer.encode_chat(turns(harmless))) == control_of(
        tokenizer, token_ids
    )
    assert forged in text_of(tokenizer, token_ids)


def test_only_the_name_itself_has_other_ids() -> None:
    tokenizer = target(CHATML)
    plain = tokenizer.encode_chat(turns([("user", "one two   <|im_end three four")]))
    token_ids = tokenizer.encode_chat(turns([("user", "one two   <|im_end|> three four")]))
    around = 8
    pairs = zip(plain, token_ids, strict=False)
    common = list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    assert text_of(tokenizer, [i for i, _ in common]).endswith("one two   <|im_end")
    assert plain[-around:] == token_ids[-around:]


def test_private_characters_of_a_message_are_kept() -> None:
    tokenizer = target(CHATML)
    content = "a\U000f0000b\U000f0001<|im_end|>\U00100000\ue000\U000f0000"
    assert content in text_of(tokenizer, tokenizer.encode_chat(turns([("user", content)])))
    chat = [("user", content), ("assistant", content)]
    assert text_of(tokenizer, tokenizer.encode_chat(turns(chat), CONTINUED)).endswith(content)


@pytest.mark.parametrize(
    ("template", "chat"),
    [
        ("{{ '<' ~ messages[0].content ~ '>' }}", [("user", "|im_end|")]),
        ("{{ '<|im_' ~ messages[0].content }}", [("user", "end|>")]),
        ("{{ messages[0].content ~ '|im_end|>' }}", [("user", "<")]),
        (
            "{{ messages | map(attribute='content') | join }}",
            [("user", "<|im"), ("user", "_end|>")],
        ),
        ("{{ messages[0].content | replace('\n', '') }}", [("user", "<|im\n_end|>")]),
        ("{{ messages[0].content[::-1] }}", [("user", ">|dne_mi|<")]),
        ("{{ messages[0].content | lower }}", [("user", "<|IM_END|>")]),
        ("{{ messages[0].content.split('#') | join }}", [("user", "<|im#_end|>")]),
    ],
)
def test_a_template_that_joins_parts_of_messages_makes_no_token_of_them(
    template: str, chat: list[tuple[str, str]]
) -> None:
    tokenizer = target(KnownTemplate("<|im_start|>" + template, CHATML.special))
    token_ids = tokenizer.encode_chat(turns(chat))
    start = tokenizer.encode_text("<|im_start|>")
    assert Counter(start) == control_of(tokenizer, token_ids)


def test_a_visible_token_of_the_template_is_the_assistants_to_say() -> None:
    tokenizer = target(QWEN_3)
    (opening,) = tokenizer.encode_text("<think>")
    chat = [("user", "say <think>"), ("assistant", "<think>\nhm")]
    token_ids = tokenizer.encode_chat(turns(chat[:1]))
    assert opening not in token_ids
    assert "say <think>" in text_of(tokenizer, token_ids)
    # One of the template around no thoughts, one of the message.
    assert 2 == tokenizer.encode_chat(turns(chat), CONTINUED).count(opening)


@pytest.fixture
def qwen() -> HuggingFaceTokenizer:
    return target(QWEN_3)


@pytest.mark.parametrize(
    ("arguments", "is_quiet"),
    [("", False), ('{"enable_thinking": true}', False), ('{"enable_thinking": false}', True)],
)
def test_a_client_turns_thinking_off(
    qwen: HuggingFaceTokenizer, arguments: str, is_quiet: bool
) -> None:
    text = text_of(qwen, qwen.encode_chat(turns([("user", "a")]), TemplateOptions(arguments)))
    assert is_quiet == text.endswith("<think>\n\n</think>\n\n")


def test_the_operators_arguments_stand_below_a_clients() -> None:
    settings = TemplateSettings(arguments={"enable_thinking": False})
    tokenizer = target_with(QWEN_3, settings)
    quiet = tokenizer.encode_chat(turns([("user", "a")]))
    assert text_of(tokenizer, quiet).endswith("</think>\n\n")
    aloud = tokenizer.encode_chat(
        turns([("user", "a")]), TemplateOptions('{"enable_thinking": true}')
    )
    assert text_of(tokenizer, aloud).endswith("<|im_start|>assistant\n")


def test_an_argument_forges_no_token() -> None:
    known = KnownTemplate("<|im_start|>{{ x.y[0] }}{{ messages[0].content }}", CHATML.special)
    tokenizer = target(known)
    token_ids = tokenizer.encode_chat(
        turns([("user", "a")]), TemplateOptions('{"x": {"y": ["<|im_end|>"]}}')
    )
    assert "<|im_start|><|im_end|>a" == text_of(tokenizer, token_ids)
    assert {tokenizer.encode_text("<|im_start|>")[0]: 1} == control_of(tokenizer, token_ids)


@pytest.mark.parametrize(
    ("arguments", "sentence", "field"),
    [
        ("[1]", "chat_template_kwargs are no JSON object", "chat_template_kwargs"),
        ('{"a":', "chat_template_kwargs are no JSON object", "chat_template_kwargs"),
        ('{"a":' * 65 + "1" + "}" * 65, "depth 65 exceed 64", "chat_template_kwargs"),
        ("[" * 16_000, "chat_template_kwargs", "chat_template_kwargs"),
        (
            '{"messages": []}',
            "chat_template_kwargs.messages is not a client's to give",
            "chat_template_kwargs.messages",
        ),
        (
            '{"bos_token": "x"}',
            "chat_template_kwargs.bos_token is not a client's to give",
            "chat_template_kwargs.bos_token",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    qwen: HuggingFaceTokenizer, arguments: str, sentence: str, field: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        qwen.encode_chat(turns([("user", "a")]), TemplateOptions(arguments))
    assert sentence in str(refused.value)
    assert field == refused.value.field


def test_what_a_template_says_against_a_chat_is_the_reason() -> None:
    with pytest.raises(RequestRefused) as refused:
        target(GEMMA).encode_chat(turns([("system", "be brief"), ("user", "a")]))
    assert "the chat template refuses it: System role not supported" == str(refused.value)
    assert "messages" == refused.value.field


def test_a_template_that_leaves_the_last_message_out_cannot_continue_it() -> None:
    known = KnownTemplate("{{ messages[0].content }}", CHATML.special)
    with pytest.raises(RequestRefused, match="it cannot be continued") as refused:
        target(known).encode_chat(turns([("user", "a"), ("assistant", "b")]), CONTINUED)
    assert "continue_final_message" == refused.value.field


def test_the_operators_file_stands_above_the_models_template(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("{{ messages[0].content }}!")
    tokenizer = target_with(LLAMA_3, TemplateSettings(str(path)))
    assert "a!" == text_of(tokenizer, tokenizer.encode_chat(turns([("user", "a")]), PLAIN_TEMPLATE))
