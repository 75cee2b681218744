"""What a client says of the template reaches the target's tokenizer, and its reasons come back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from shared.protocol.messages import PLAIN_TEMPLATE, ChatMessage, TemplateOptions
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import loopback
from tests.support.ends.scripted import VOCAB_SIZE, board, scripted_service
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

TEMPLATE = (
    "{% for turn in messages %}<|{{ turn.content }}|>{% endfor %}"
    "{% if think %}hm{% endif %}{% if reasoning_effort %}{{ reasoning_effort }}{% endif %}"
    "{% if messages[0].content == 'bad' %}{{ raise_exception('no such talk') }}{% endif %}"
    "{% if add_generation_prompt %}<|{% endif %}"
)


def tiny() -> HuggingFaceTokenizer:
    """A letter is a token, and so are the signs around a turn."""
    signs = "~Ġabcdefghijklmnopqrstuvwxyz<|>" + "ó°Ģ"  # the last are the bytes of a mark
    letters = {letter: i for i, letter in enumerate(signs)}
    tokenizer = Tokenizer(BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|", "|>"])
    source = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    source.chat_template = TEMPLATE
    return HuggingFaceTokenizer(source, VOCAB_SIZE)


class ChatTokenizer(ScriptedTokenizer):
    """The scripted vocabulary, whose chats a real tokenizer and template write."""

    def __init__(self) -> None:
        super().__init__(VOCAB_SIZE)
        self.real = tiny()
        self.chats: list[str] = []

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        options: TemplateOptions = PLAIN_TEMPLATE,
        tools: bytes = b"",
    ) -> list[int]:
        token_ids = self.real.encode_chat(messages, options, tools)
        names = (self.real.token_bytes[i].decode() for i in token_ids)
        special = self.real.special_ids
        shown = zip(token_ids, names, strict=True)
        self.chats.append("".join(f"[{name}]" if i in special else name for i, name in shown))
        return token_ids


def ask(messages: list[dict[str, str]], **fields: Any) -> str:
    """The prompt that the target reads, its special tokens in brackets."""

    async def scenario() -> str:
        service = scripted_service()
        service.tokenizer = tokenizer = ChatTokenizer()
        async with (
            loopback(service, [board()]) as (_, [agent]),
            serving(agent) as url,
        ):
            client = AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            async with client:
                create: Any = client.chat.completions.create
                await create(model="any", messages=messages, max_tokens=2, extra_body=fields)
        (prompt,) = tokenizer.chats
        return prompt

    return asyncio.run(scenario())


USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}


@pytest.mark.parametrize(
    ("messages", "fields", "prompt"),
    [
        ([USER], {}, "[<|]hi[|>][<|]"),
        ([USER], {"chat_template_kwargs": {"think": True}}, "[<|]hi[|>]hm[<|]"),
        ([USER], {"reasoning_effort": "low"}, "[<|]hi[|>]low[<|]"),
        ([USER, ASSISTANT], {}, "[<|]hi[|>][<|]so[|>][<|]"),
        ([USER, ASSISTANT], {"add_generation_prompt": False}, "[<|]hi[|>][<|]so[|>]"),
        ([USER, ASSISTANT], {"continue_final_message": True}, "[<|]hi[|>][<|]so"),
        ([{"role": "user", "content": "a|><|b"}], {}, "[<|]a|><|b[|>][<|]"),
    ],
)
def test_a_client_decides_how_its_chat_is_written(
    messages: list[dict[str, str]], fields: dict[str, Any], prompt: str
) -> None:
    assert prompt == ask(messages, **fields)


def test_what_a_template_says_against_a_chat_is_a_400() -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask([{"role": "user", "content": "bad"}])
    assert "the chat template refuses it: no such talk" == refused.value.body["message"]  # type: ignore[index]
    assert "messages" == refused.value.param


def test_an_argument_that_is_not_a_clients_is_a_400() -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask([USER], chat_template_kwargs={"messages": []})
    assert "chat_template_kwargs.messages" == refused.value.param
