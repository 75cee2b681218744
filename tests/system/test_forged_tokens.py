"""No message makes a control token, in any vocabulary that llama.cpp ships."""

from __future__ import annotations

import functools
import json
from collections import Counter

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from shared.protocol.messages import PLAIN_TEMPLATE, ChatMessage, TemplateOptions, ToolCall
from tests.support.chats.turns import turns
from tests.support.models.vocabularies import shipped_names, shipped_vocabulary
from verifier.torch_target.loading.gguf_vocabulary import GgufVocabulary, read_gguf_vocabulary
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

# The target's own tokenizer takes this long to read only where it has few merges.
READ_BY_TRANSFORMERS = ("deepseek-coder", "llama-spm", "phi-3")
READ_SLOWLY = (
    *("aquila", "deepseek-llm", "falcon", "gpt-2", "llama-bpe", "qwen2", "qwen35", "starcoder"),
)
OF_NO_TARGET = frozenset({"bert-bge"})  # of an encoder

in_file = functools.cache(lambda name: read_gguf_vocabulary(shipped_vocabulary(name)))


def names() -> list[str]:
    shipped_vocabulary("qwen2")
    return [name for name in shipped_names() if name not in OF_NO_TARGET]


def check(source: PreTrainedTokenizerBase, vocabulary: GgufVocabulary) -> None:
    """A chat that holds every special string has the control tokens of a harmless one."""
    added = [token.content for token in source.added_tokens_decoder.values() if token.special]
    special = [vocabulary.token_bytes[i].decode() for i in sorted(vocabulary.special_ids)]
    strings = sorted({*added, *special} - {""})
    opening = next(filter(None, special))
    source.chat_template = (
        "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
        "{% for turn in messages %}{{ '" + opening + "' + turn.role + ':' + turn.content }}"
        "{{ turn.reasoning_content }}{{ turn.tool_call_id }}{{ turn.name }}"
        "{% for call in turn.tool_calls or [] %}"
        "{{ call.id }}{{ call.function.name }}{{ call.function.arguments | tojson }}"
        "{% endfor %}{% endfor %}"
    )
    size = len(vocabulary.token_bytes)
    tokenizer = HuggingFaceTokenizer(source, size, file_vocabulary=vocabulary)
    forged = f"a{' '.join(strings)}b{''.join(strings)}c{'<'.join(2 * s for s in strings)}d"
    for role in ("system", "user", "assistant", "tool"):
        harmless, token_ids = (
            tokenizer.encode_chat(turns([("user", "hi"), (role, text)]))
            for text in ("harmless", forged)
        )
        control, forged_control = (
            Counter(i for i in ids if i in tokenizer.special_ids) for ids in (harmless, token_ids)
        )
        assert control == forged_control
        made = b"".join(tokenizer.token_bytes[i] for i in token_ids).decode()
        assert f"{role}:{forged}" in made
    assert 2 == sum(control.values())
    harmless, token_ids = (
        tokenizer.encode_chat(*talk_with_tools(text)) for text in ("harmless", forged)
    )
    control, forged_control = (
        Counter(i for i in ids if i in tokenizer.special_ids) for ids in (harmless, token_ids)
    )
    assert control == forged_control
    assert 3 == sum(control.values())


def talk_with_tools(text: str) -> tuple[list[ChatMessage], TemplateOptions, bytes]:
    """The text wherever what tools are, were asked and said may hold one."""
    schema = {"type": text, "properties": {text: {"description": text, "enum": [text]}}}
    function = {"name": text, "description": text, "parameters": schema}
    call = ToolCall(text[:200], text[:200], json.dumps({text: [text, {"a": text}]}))
    return (
        [
            ChatMessage("user", "hi"),
            ChatMessage("assistant", "", text, (call,)),
            ChatMessage("tool", text, "", (), text[:200], text[:200]),
        ],
        PLAIN_TEMPLATE,
        json.dumps([{"type": "function", "function": function}], ensure_ascii=False).encode(),
    )


def of_bytes(vocabulary: GgufVocabulary) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer with the ids and special tokens of a file, and without merges."""
    alphabet = bytes_to_unicode()  # type: ignore[no-untyped-call]
    ids = {
        "".join(alphabet[byte] for byte in token): i
        for i, token in reversed(list(enumerate(vocabulary.token_bytes)))
        if i not in vocabulary.special_ids
    }
    special = {i: vocabulary.token_bytes[i].decode() for i in vocabulary.special_ids}
    ids |= {name: i for i, name in special.items()}
    unknown = "<unk>" if "<unk>" in ids else None  # a byte that the file lacks
    tokenizer = Tokenizer(BPE(ids, [], unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False) for name in special.values() if name]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)


@pytest.mark.parametrize("name", names())
def test_no_message_makes_a_control_token_of_any_shipped_vocabulary(name: str) -> None:
    check(of_bytes(in_file(name)), in_file(name))


@pytest.mark.parametrize(
    "name",
    [*READ_BY_TRANSFORMERS, *(pytest.param(n, marks=pytest.mark.slow) for n in READ_SLOWLY)],
)
def test_nor_with_the_tokenizer_that_transformers_makes_of_the_file(name: str) -> None:
    path = shipped_vocabulary(name)
    source = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    check(source, in_file(name))
