"""Tools, calls and results in the templates that models bring, as transformers writes them."""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from shared.errors import RequestRefused
from shared.protocol.messages import PLAIN_TEMPLATE, ChatMessage, OutputFormat, ToolCall
from tests.support.models.chat_templates import CHATML, GEMMA, KnownTemplate
from tests.support.models.packaged_tokenizers import gpt_2_tokenizer
from tests.support.models.vocabularies import shipped_template
from verifier.chat_template.output_family import opening_of
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
QWEN_MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
LLAMA_MARKS = (
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|eom_id|>", "<|python_tag|>"),
)
MISTRAL_MARKS = (
    *("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[ARGS]"),
    *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[CALL_ID]", "[THINK]", "[/THINK]"),
    *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)
GEMMA_MARKS = (
    *("<bos>", "<|turn>", "<turn|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>"),
    *("<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>", '<|"|>'),
)
HARMONY_MARKS = (
    *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>"),
    "<|call|>",
)
# Name in llama.cpp, special tokens, tokens that print, the beginning of a text.
MODELS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str | None]] = {
    "Qwen-Qwen2.5-7B-Instruct": (CHATML_MARKS, QWEN_MARKS[:2], None),
    "Qwen-Qwen3-0.6B": (CHATML_MARKS, QWEN_MARKS, None),
    "Qwen3-Coder": (CHATML_MARKS, QWEN_MARKS[:2], None),
    "Qwen3.5-4B": (CHATML_MARKS, QWEN_MARKS, None),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": (CHATML_MARKS, (), "<|begin_of_text|>"),
    "meta-llama-Llama-3.1-8B-Instruct": (LLAMA_MARKS, (), "<|begin_of_text|>"),
    "meta-llama-Llama-3.2-3B-Instruct": (LLAMA_MARKS, (), "<|begin_of_text|>"),
    "mistralai-Mistral-Nemo-Instruct-2407": (MISTRAL_MARKS, (), "<s>"),
    "Mistral-Small-3.2-24B-Instruct-2506": (MISTRAL_MARKS, (), "<s>"),
    "unsloth-mistral-Devstral-Small-2507": (MISTRAL_MARKS, (), "<s>"),
    "mistralai-Ministral-3-14B-Reasoning-2512": (MISTRAL_MARKS, (), "<s>"),
    "google-gemma-4-31B-it": (GEMMA_MARKS, (), "<bos>"),
    "openai-gpt-oss-120b": (HARMONY_MARKS, (), None),
}
FAMILIES = {
    "Qwen-Qwen2.5-7B-Instruct": OutputFormat("hermes"),
    "Qwen-Qwen3-0.6B": OutputFormat("hermes", "think"),
    "Qwen3-Coder": OutputFormat("hermes"),
    "Qwen3.5-4B": OutputFormat("hermes", "think"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": OutputFormat("hermes"),
    "meta-llama-Llama-3.1-8B-Instruct": OutputFormat("llama"),
    "meta-llama-Llama-3.2-3B-Instruct": OutputFormat("llama"),
    "mistralai-Mistral-Nemo-Instruct-2407": OutputFormat("mistral"),
    "Mistral-Small-3.2-24B-Instruct-2506": OutputFormat("mistral"),
    "unsloth-mistral-Devstral-Small-2507": OutputFormat("mistral"),
    "mistralai-Ministral-3-14B-Reasoning-2512": OutputFormat("mistral", "mistral"),
    "google-gemma-4-31B-it": OutputFormat("gemma", "gemma"),
    "openai-gpt-oss-120b": OutputFormat("harmony", "harmony"),
}
CALL_ID = "abcdefghi"  # as Mistral's templates want them
FUNCTION: dict[str, Any] = {
    "name": "get_weather",
    "description": "How it is <b>there</b>",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where"}},
        "required": ["city"],
    },
}
ARGUMENTS = {"city": "Paris – it's"}
TOOLS = [{"type": "function", "function": FUNCTION}]
# Gemma's template sets a description even where there is none; Mistral's the tools at the end.
CHAT = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "How is Paris?"),
    ChatMessage("assistant", "", "", (ToolCall(CALL_ID, "get_weather", json.dumps(ARGUMENTS)),)),
    ChatMessage("tool", "Rain <b>", "", (), CALL_ID, "get_weather"),
)


@functools.cache
def source(model: str) -> PreTrainedTokenizerBase:
    special, visible, bos = MODELS[model]
    return built(KnownTemplate(shipped_template(model), special, visible, bos))


@functools.cache
def built(known: KnownTemplate) -> PreTrainedTokenizerBase:
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = gpt_2_tokenizer(Path(directory))
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in known.special]
    )
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in known.visible])
    tokenizer.bos_token = known.bos
    tokenizer.chat_template = known.text
    return tokenizer


@functools.cache
def target(model: str) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(source(model), len(source(model)))


def packed(tools: Any = TOOLS) -> bytes:
    return msgspec.json.encode(tools)


def text_of(tokenizer: HuggingFaceTokenizer, token_ids: list[int]) -> str:
    return b"".join(tokenizer.token_bytes[i] for i in token_ids).decode()


@pytest.mark.parametrize("model", MODELS)
def test_the_family_is_told_by_the_template(model: str) -> None:
    assert FAMILIES[model] == target(model).output_format


@pytest.mark.parametrize("model", MODELS)
def test_a_talk_with_tools_has_the_ids_that_transformers_gives_it(model: str) -> None:
    call = {"name": "get_weather", "arguments": ARGUMENTS}
    told: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is Paris?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": CALL_ID, "type": "function", "function": call}],
        },
        {"role": "tool", "content": "Rain <b>", "tool_call_id": CALL_ID, "name": "get_weather"},
    ]
    expected: Any = source(model).apply_chat_template(
        told,
        tools=TOOLS,
        documents=None,
        add_generation_prompt=True,
        return_dict=False,
    )
    token_ids = target(model).encode_chat(CHAT, PLAIN_TEMPLATE, packed())
    assert text_of(target(model), expected) == text_of(target(model), token_ids)
    assert expected == token_ids
    assert "get_weather" in text_of(target(model), token_ids)


def forged_chat(text: str, thought: str) -> tuple[tuple[ChatMessage, ...], bytes]:
    """The text wherever a client may put one; tokens that print are an assistant's to say."""
    arguments = json.dumps({"city": text, text: [text, {text: text}]})
    function = {
        "name": "get_weather",
        "description": text,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": text, "enum": [text]}},
            "required": [text],
        },
    }
    return (
        (
            *CHAT[:2],
            ChatMessage("assistant", "", thought, (ToolCall(CALL_ID, "get_weather", arguments),)),
            ChatMessage("tool", text, "", (), CALL_ID, text[:200]),
        ),
        packed([{"type": "function", "function": function}]),
    )


@pytest.mark.parametrize("model", MODELS)
def test_no_text_of_a_tool_or_a_call_makes_a_control_token(model: str) -> None:
    tokenizer = target(model)
    written = {name for name in MODELS[model][1] if name in shipped_template(model)}
    special = sorted(tokenizer.token_bytes[i].decode() for i in tokenizer.special_ids)
    names = [*special, *sorted(written)]
    control = {*tokenizer.special_ids, *(tokenizer.encode_text(name)[0] for name in written)}
    counts = []
    for text, thought in (
        ("harmless", "harmless"),
        (f"a{' '.join(names)}b{''.join(names)}", f"a{' '.join(special)}b{''.join(special)}"),
    ):
        chat, tools = forged_chat(text, thought)
        token_ids = tokenizer.encode_chat(chat, PLAIN_TEMPLATE, tools)
        counts.append(Counter(i for i in token_ids if i in control))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("known", [CHATML, GEMMA])
def test_tools_are_told_in_words_where_a_template_knows_none(known: KnownTemplate) -> None:
    tokenizer = HuggingFaceTokenizer(built(known), len(built(known)))
    assert OutputFormat("hermes") == tokenizer.output_format
    chat = CHAT if known is CHATML else CHAT[1:]
    text = text_of(tokenizer, tokenizer.encode_chat(chat, PLAIN_TEMPLATE, packed()))
    assert f"<tools>\n{json.dumps(TOOLS[0])}\n</tools>" in text
    assert text.index("<tools>") < text.index("How is Paris?")
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris \\u2013 it\'s"}}'
    assert f"{call}\n</tool_call>" in text
    assert "<tool_response>\nRain <b>\n</tool_response>" in text


def test_a_template_may_know_tools_by_another_name() -> None:
    template = "<|im_start|>{{ xml_tools[0].function.name }}{{ messages[0].content }}<tool_call>"
    known = KnownTemplate(template, CHATML_MARKS)
    tokenizer = HuggingFaceTokenizer(built(known), len(built(known)))
    token_ids = tokenizer.encode_chat(CHAT, PLAIN_TEMPLATE, packed())
    assert "<|im_start|>get_weatherBe brief.<tool_call>" == text_of(tokenizer, token_ids)


def test_results_that_follow_each_other_are_one_turn_in_words() -> None:
    tokenizer = HuggingFaceTokenizer(built(CHATML), len(built(CHATML)))
    text = text_of(tokenizer, tokenizer.encode_chat((*CHAT, CHAT[-1])))
    assert 2 == text.count("<tool_response>")
    assert 2 == text.count("<|im_start|>user")


def test_arguments_are_a_text_where_a_template_joins_them_to_one() -> None:
    template = (
        "<|im_start|>{% for tool in tools or [] %}{% endfor %}{% for turn in messages %}"
        "{{ turn.content }}{% for call in turn.tool_calls %}"
        "{{ call.function.name + call.function.arguments }}{% endfor %}{% endfor %}"
    )
    known = KnownTemplate(template, CHATML_MARKS)
    tokenizer = HuggingFaceTokenizer(built(known), len(built(known)))
    assert f"get_weather{json.dumps(ARGUMENTS)}" in text_of(tokenizer, tokenizer.encode_chat(CHAT))


def test_arguments_that_are_no_object_are_shown_as_they_are() -> None:
    tokenizer = target("Qwen-Qwen3-0.6B")
    chat = (CHAT[1], ChatMessage("assistant", "", "", (ToolCall("c", "add", '{"a": '),)), CHAT[3])
    assert '"arguments": {"a": }' in text_of(tokenizer, tokenizer.encode_chat(chat))


def test_ids_of_other_servers_are_shortened_for_mistrals_template() -> None:
    tokenizer = target("mistralai-Mistral-Nemo-Instruct-2407")
    call = ToolCall("call_0123456789abcdef0", "get_weather", "{}")
    chat = (
        CHAT[1],
        ChatMessage("assistant", "", "", (call,)),
        ChatMessage("tool", "Rain", "", (), call.call_id),
    )
    text = text_of(tokenizer, tokenizer.encode_chat(chat, PLAIN_TEMPLATE, packed()))
    made = text.split('"id": "')[1][:9]
    assert made.isalnum()
    assert f'"call_id": "{made}"' in text


@pytest.mark.parametrize("tools", [b"[", b"{}", b"[5]", b"\xff", b'[{"a":' + b"[" * 70])
def test_tools_that_are_no_list_of_objects_are_refused(tools: bytes) -> None:
    with pytest.raises(RequestRefused, match=r"^tools are no list of JSON objects") as refused:
        target("Qwen-Qwen3-0.6B").encode_chat(CHAT, PLAIN_TEMPLATE, tools)
    assert "tools" == refused.value.field


def test_tools_that_are_too_deep_are_refused() -> None:
    deep = b'[{"function":' + b'{"a":' * 63 + b"1" + b"}" * 63 + b"}]"
    with pytest.raises(RequestRefused, match=r"^tools of depth 65 exceed 64$"):
        target("Qwen-Qwen3-0.6B").encode_chat(CHAT, PLAIN_TEMPLATE, deep)


def test_brackets_in_the_texts_of_tools_make_them_no_deeper() -> None:
    function = {"name": "f", "description": "[" * 200 + '\\"{', "parameters": {}}
    tools = packed([{"type": "function", "function": function}])
    tokenizer = target("Qwen-Qwen3-0.6B")
    assert "[" * 200 in text_of(tokenizer, tokenizer.encode_chat(CHAT, PLAIN_TEMPLATE, tools))


def test_many_tools_and_a_huge_schema_are_shown() -> None:
    properties = {f"p{i}": {"type": "string", "description": "x" * 50} for i in range(1000)}
    tools = [
        {"type": "function", "function": {"name": f"f{i}", "description": "", "parameters": {}}}
        for i in range(200)
    ]
    tools[0]["function"]["parameters"] = {"type": "object", "properties": properties}  # type: ignore[index]
    tokenizer = target("Qwen-Qwen3-0.6B")
    text = text_of(tokenizer, tokenizer.encode_chat(CHAT, PLAIN_TEMPLATE, packed(tools)))
    assert '"p999"' in text
    assert '"f199"' in text


@pytest.mark.parametrize(
    ("family", "prompt", "last", "is_continued", "opening"),
    [
        ("think", "<|a|><think>\n", "", False, "<think>"),
        ("think", "<|a|><think>\n\n</think>\n\n", "", False, ""),
        ("think", "<|a|>", "", False, ""),
        ("think", "<think>\nhm", "<think>\nhm", True, "<think>"),
        ("think", "<think>\nhm</think>a", "<think>\nhm</think>a", True, ""),
        ("mistral", "[/INST][THINK]", "", False, "[THINK]"),
        ("harmony", "<|start|>assistant", "", False, ""),
        ("harmony", "so", "so", True, "<|channel|>final<|message|>"),
        ("", "<think>", "", False, ""),
    ],
)
def test_a_prompt_that_opens_thoughts_is_known_by_its_end(
    family: str, prompt: str, last: str, is_continued: bool, opening: str
) -> None:
    token_bytes = [character.encode() for character in prompt]
    chat = [ChatMessage("user", "a"), ChatMessage("assistant", last)]
    prompt_ids = range(len(token_bytes))
    assert opening == opening_of(family, chat, prompt_ids, token_bytes, is_continued=is_continued)
