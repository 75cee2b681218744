"""Every vocabulary that llama.cpp ships: the same file at both ends is accepted, others are not.

The proof is the one of the greeting, from the file to the sentence; only models are left out.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.link.keeper import MAX_RECONCILIATIONS
from shared.errors import ModelError
from shared.protocol.fingerprint import explain, fingerprint, reconciled
from shared.protocol.messages import PROTOCOL_VERSION, ErrorCode, Hello
from tests.support.models.board_vocabulary import board_vocabulary
from tests.support.models.packaged_tokenizers import (
    gpt_2_tokenizer,
    llama_3_tokenizer,
    qwen_tokenizer,
)
from tests.support.models.target_loading import load_on_cpu
from tests.support.models.vocabularies import shipped_names, shipped_vocabulary
from verifier.server.greeting import ConnectionRefused, check_hello
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

ACCEPTED = (
    "aquila",
    "baichuan",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "gpt-neox",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "nomic-bert-moe",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
)
# Only encoders have word pieces; no target can be read from such a file.
OF_NO_TARGET = {"bert-bge": "is of the kind bert; a target can have gpt2, llama, t5, gemma4"}
# Vocabularies that are read, of models that transformers cannot read from a GGUF file.
UNREADABLE_MODELS = {
    "baichuan": "GGUF model with architecture baichuan is not supported",
    "bert-bge": "is of the kind bert; a target can have",
    "command-r": "GGUF model with architecture command-r is not supported",
    "gpt-neox": "GGUF model with architecture gptneox is not supported",
    "mpt": "GGUF model with architecture mpt is not supported",
    "nomic-bert-moe": "GGUF model with architecture nomic-bert-moe is not supported",
    "refact": "GGUF model with architecture refact is not supported",
    "gemma-4": "its layers have different numbers of attention heads",
}
SLOW_TO_REFUSE = frozenset({"command-r", "gemma-4", "nomic-bert-moe"})

on_board = functools.cache(lambda name: board_vocabulary(shipped_vocabulary(name)))
in_target = functools.cache(lambda name: read_gguf_vocabulary(shipped_vocabulary(name)))


def refusal(draft: tuple[bytes, ...], target: tuple[bytes, ...]) -> str | None:
    """What the operator of a board reads, or None where it is welcome in the end."""
    tokenizer = ScriptedTokenizer(2)
    tokenizer.token_bytes = target
    proof, known = fingerprint(target), draft
    for _ in range(MAX_RECONCILIATIONS + 1):
        hello = Hello(PROTOCOL_VERSION, "", "small", len(draft), fingerprint(known))
        try:
            check_hello(hello, proof, tokenizer, "large")
        except ConnectionRefused as refused:
            error = refused.error
        else:
            return None
        assert ErrorCode.VOCABULARY == error.code
        assert error.difference is not None
        told = reconciled(error.difference, known, draft)
        if told is None:
            return f"{error.sentence}: {explain(error.difference, draft)}"
        known = told
    raise AssertionError("the board gave up")


def test_the_tables_name_every_vocabulary_that_is_shipped() -> None:
    shipped_vocabulary("qwen2")
    assert sorted([*ACCEPTED, *OF_NO_TARGET]) == shipped_names()


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_same_file_at_both_ends_is_accepted(name: str) -> None:
    assert refusal(on_board(name), in_target(name).token_bytes) is None
    assert on_board(name) == in_target(name).token_bytes


@pytest.mark.parametrize("name", OF_NO_TARGET)
def test_a_kind_of_vocabulary_that_no_target_has_is_one_sentence(name: str) -> None:
    with pytest.raises(ModelError, match=OF_NO_TARGET[name]):
        in_target(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW_TO_REFUSE else name
        for name in UNREADABLE_MODELS
    ],
)
def test_a_model_that_cannot_be_read_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(ModelError, match=UNREADABLE_MODELS[name]):
        load_on_cpu(shipped_vocabulary(name))


def packaged(name: str, directory: Path, vocab_size: int) -> tuple[bytes, ...]:
    """What a verifier reads of a tokenizer in transformers' format."""
    match name:
        case "gpt-2":
            tokenizer = gpt_2_tokenizer(directory)
        case "llama-bpe":
            tokenizer = llama_3_tokenizer()
        case _:
            tokenizer = qwen_tokenizer()
    return HuggingFaceTokenizer(tokenizer, vocab_size).token_bytes


@pytest.mark.parametrize(
    ("name", "vocab_size"),
    [("gpt-2", 50_257), ("llama-bpe", 128_256), ("qwen2", 151_936), ("qwen2", 152_064)],
)
def test_a_gguf_draft_fits_the_same_vocabulary_in_transformers_format(
    name: str, vocab_size: int, tmp_path: Path
) -> None:
    target = packaged(name, tmp_path, vocab_size)
    assert refusal(on_board(name), target) is None
    assert vocab_size == len(target)


def test_the_tokens_of_a_text_have_its_bytes() -> None:
    llama, qwen = in_target("llama-bpe").token_bytes, in_target("qwen2").token_bytes
    assert (b" world", b"<|eot_id|>") == (llama[1917], llama[128009])
    assert (b" world", b"<|im_end|>") == (qwen[1879], qwen[151645])
    phi = in_target("phi-3").token_bytes
    assert (b"<unk>", b"\n", b" world", b"<|end|>") == (phi[0], phi[13], phi[3186], phi[32007])


@pytest.mark.parametrize("name", ["llama-bpe", "deepseek-llm", "qwen2", "llama-spm"])
def test_the_end_of_a_text_makes_no_text(name: str) -> None:
    ends = {
        "llama-bpe": "<|eot_id|>",
        "deepseek-llm": "<｜end▁of▁sentence｜>",
        "qwen2": "<|im_end|>",
        "llama-spm": "</s>",
    }
    vocabulary = in_target(name)
    assert vocabulary.token_bytes.index(ends[name].encode()) in vocabulary.special_ids


# --- pairs that do not fit -------------------------------------------------------------------


def swapped(tokens: list[bytes]) -> list[bytes]:
    tokens[70_000], tokens[70_001] = tokens[70_001], tokens[70_000]
    return tokens


def one_byte_changed(tokens: list[bytes]) -> list[bytes]:
    tokens[100_000] = bytes([tokens[100_000][0] ^ 1]) + tokens[100_000][1:]
    return tokens


def renamed_special(tokens: list[bytes]) -> list[bytes]:
    tokens[128_009] = b"<|end|>"
    return tokens


WRONG_PAIRS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "two ids swapped": (swapped, 70_000),
    "one byte changed": (one_byte_changed, 100_000),
    "a special token with another name": (renamed_special, 128_009),
    "shifted up by one": (lambda tokens: [b"<pad>", *tokens[:-1]], 0),
    "shifted down by one": (lambda tokens: [*tokens[1:], b"<pad>"], 0),
    "one id left out": (lambda tokens: [*tokens[:5000], *tokens[5001:]], 5000),
    "truncated, and another last one": (lambda tokens: [*tokens[:127_999], b"<pad>"], 127_999),
    "truncated in front": (lambda tokens: tokens[65_536:], 0),
    "one id without bytes before one of others": (
        lambda tokens: [*tokens[:130], b"", b"<pad>", *tokens[132:]],
        131,
    ),
    "a token without its space": (
        lambda tokens: [*tokens[:1917], tokens[1917].strip(), *tokens[1918:]],
        1917,
    ),
}


@pytest.mark.parametrize("name", WRONG_PAIRS)
def test_a_vocabulary_that_differs_is_refused_at_the_first_differing_id(name: str) -> None:
    target = in_target("llama-bpe").token_bytes
    change, first_id = WRONG_PAIRS[name]
    draft = tuple(change(list(on_board("llama-bpe"))))
    here, there = ((v[first_id] if first_id < len(v) else b"") for v in (draft, target))
    assert here != there
    sizes = (len(draft), len(target))
    counts = "" if sizes[0] == sizes[1] else " ({} tokens, {} there)".format(*sizes)
    assert (
        f"draft model small has another vocabulary than large{counts}: "
        f"token id {first_id} is {here!r} here and {there!r} there"
    ) == refusal(draft, target)


@pytest.mark.parametrize(
    ("draft", "target", "meaning"),
    [
        ("gpt-2", "llama-bpe", "token id 256 is b' t' here and b'  ' there"),
        ("deepseek-coder", "deepseek-llm", "token id 294 is b'        ' here and b'ro' there"),
        ("gpt-neox", "qwen2", "token id 0 is b'<|endoftext|>' here and b'!' there"),
    ],
)
def test_other_families_are_refused(draft: str, target: str, meaning: str) -> None:
    sentence = refusal(on_board(draft), in_target(target).token_bytes)
    assert sentence is not None
    board, verifier = on_board(draft), in_target(target).token_bytes
    first = next(i for i in range(len(verifier)) if board[i : i + 1] != verifier[i : i + 1])
    assert f"token id {first} is" in sentence
    assert meaning in sentence


ONE_SIDED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "as Qwen 2.5 beside Qwen 3": lambda tokens: tokens[:128_250],
    "truncated": lambda tokens: tokens[:128_000],
    "truncated at the end of a block": lambda tokens: tokens[: 120 * 1024],
    "one id longer than the model": lambda tokens: [*tokens, b"<pad>"],
    "three blocks longer than the model": lambda tokens: [*tokens, *[b"<more>"] * 3000],
    "special tokens are none here": lambda tokens: [*tokens[:128_000], *[b""] * 256, b"<pad>"],
}


@pytest.mark.parametrize("name", ONE_SIDED)
def test_ids_that_one_side_alone_has_are_no_reason(name: str) -> None:
    tokens = on_board("llama-bpe")
    other = tuple(ONE_SIDED[name](list(tokens)))
    assert refusal(other, tokens) is None
    assert refusal(tokens, other) is None


def test_llamas_draft_fits_phis_target_which_has_more_tokens() -> None:
    assert refusal(on_board("llama-spm"), in_target("phi-3").token_bytes) is None
    assert refusal(on_board("phi-3"), in_target("llama-spm").token_bytes) is None


@pytest.mark.parametrize("num_more", [1, 128, 5000])
def test_padding_at_either_end_does_not_matter(num_more: int) -> None:
    tokens, padded = on_board("qwen2"), (*on_board("qwen2"), *[b""] * num_more)
    assert refusal(tokens, padded) is None
    assert refusal(padded, tokens) is None


def test_the_proof_takes_little_time_for_the_largest_vocabulary() -> None:
    for tokens in (on_board("gemma-4"), in_target("gemma-4").token_bytes):
        assert 262_144 == len(tokens)
        seconds = []
        for _ in range(5):
            started_at = time.process_time()
            fingerprint(tokens)
            seconds.append(time.process_time() - started_at)
        assert min(seconds) <= 0.3
