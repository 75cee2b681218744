"""The tokenizer's endpoints over a real socket, in the shapes of vLLM, llama-server, Anthropic."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from anthropic import AsyncAnthropic

from edge_agent.generation.scripted_generator import ScriptedGenerator
from tests.support.ends.api_server import HELLO, ByteTokenizer, serving


def answers_to(path: str, *bodies: dict[str, Any]) -> list[tuple[int, Any]]:
    async def play() -> list[tuple[int, Any]]:
        told = []
        async with (
            serving(ScriptedGenerator(HELLO), tokenizer=ByteTokenizer()) as url,
            aiohttp.ClientSession(url) as http,
        ):
            for body in bodies:
                async with http.post(path, json=body) as response:
                    told.append((response.status, await response.json()))
        return told

    return asyncio.run(play())


def test_a_prompt_is_tokenized_in_vllms_shape() -> None:
    plain, strings, chat = answers_to(
        "/tokenize",
        {"model": "any", "prompt": "hi"},
        {"prompt": "é", "add_special_tokens": False, "return_token_strs": True},
        {"messages": [{"role": "user", "content": "a"}]},
    )
    whole = {"count": 3, "max_model_len": 4096, "tokens": [256, 104, 105], "token_strs": None}
    assert (200, whole) == plain
    assert ["\ufffd", "\ufffd"] == strings[1]["token_strs"]
    assert [256, 97] == chat[1]["tokens"]


def test_a_content_is_tokenized_in_llama_servers_shape() -> None:
    plain, pieces = answers_to(
        "/tokenize", {"content": "hi"}, {"content": "aé", "add_special": True, "with_pieces": True}
    )
    assert (200, {"tokens": [104, 105]}) == plain
    assert [
        {"id": 256, "piece": "<s>"},
        {"id": 97, "piece": "a"},
        {"id": 195, "piece": [195]},
        {"id": 169, "piece": [169]},
    ] == pieces[1]["tokens"]


def test_tokens_become_text_again_for_clients_of_both() -> None:
    text, wrong = answers_to("/detokenize", {"tokens": [256, 195, 169]}, {"tokens": [257]})
    assert (200, {"prompt": "<s>é", "content": "<s>é"}) == text
    assert (400, "tokens") == (wrong[0], wrong[1]["error"]["param"])


def test_large_prompts_are_read_in_a_process() -> None:
    ((status, told),) = answers_to("/tokenize", {"prompt": "x" * 100_000})
    assert (200, 100_001) == (status, told["count"])


def test_without_a_verifier_it_is_a_503() -> None:
    ((status, told),) = answers_to("/tokenize", {"prompt": "away"})
    assert (503, "verifier_away") == (status, told["error"]["code"])


def test_anthropics_client_counts_tokens() -> None:
    async def scenario() -> None:
        async with (
            serving(ScriptedGenerator(HELLO), tokenizer=ByteTokenizer()) as url,
            AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client,
        ):
            turns: Any = [{"role": "user", "content": "hi"}]
            told = await client.messages.count_tokens(model="any", messages=turns, system="Be.")
            assert 6 == told.input_tokens

    asyncio.run(scenario())
