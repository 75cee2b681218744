"""Every id has its bytes, whatever the vocabulary is written in, and chats become token ids."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from shared.errors import RequestRefused
from tests.support.chats.turns import turns
from verifier.torch_target.loading.gguf_vocabulary import GgufVocabulary
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

CHAT_TEMPLATE = (
    "{% for turn in messages %}"
    "{% if turn.role == 'critic' %}{{ raise_exception('no critics here') }}{% endif %}"
    "<|im_start|>{{ turn.content }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE: 256 bytes, one merge, two special tokens, one token added as text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate(alphabet)} | {"ab": 256}
    tokenizer = Tokenizer(BPE(vocabulary, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("né", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")


def sentencepiece() -> PreTrainedTokenizerFast:
    """A SentencePiece vocabulary with byte fallback."""
    names = ["<s>", "</s>", "<0x41>", "<0xE2>", "▁", "▁the", "x", "▁▁"]
    tokenizer = Tokenizer(BPE({name: i for i, name in enumerate(names)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def test_every_byte_of_a_text_is_in_its_tokens() -> None:
    tokenizer = HuggingFaceTokenizer(byte_level(), vocab_size=300)
    text = "ab né \n\t\x00 ÿ😀 こ"
    token_ids = tokenizer.encode_text(text)
    assert text.encode() == b"".join(tokenizer.token_bytes[i] for i in token_ids)
    assert 300 == len(tokenizer.token_bytes)
    assert b"" == tokenizer.token_bytes[299]


def test_special_tokens_have_their_names_and_print_nothing() -> None:
    tokenizer = HuggingFaceTokenizer(byte_level(), vocab_size=260, end_ids=[7])
    assert b"<|im_end|>" == tokenizer.token_bytes[258]
    assert {257, 258} == tokenizer.special_ids
    assert {7, 258} == tokenizer.end_ids


def test_sentencepiece_names_become_spaces_and_bytes() -> None:
    tokenizer = HuggingFaceTokenizer(sentencepiece(), vocab_size=8)
    expected = (b"<s>", b"</s>", b"A", b"\xe2", b" ", b" the", b"x", b"  ")
    assert expected == tokenizer.token_bytes
    assert {1} == tokenizer.end_ids


def test_a_chat_is_written_by_the_template_and_opens_the_answer() -> None:
    source = byte_level()
    source.chat_template = CHAT_TEMPLATE
    tokenizer = HuggingFaceTokenizer(source, vocab_size=300)
    token_ids = tokenizer.encode_chat(turns([("system", "ab"), ("user", "")]))
    assert [257, 256, 258, 257, 258, 257] == token_ids


def test_turns_that_the_template_refuses_are_the_clients_fault() -> None:
    source = byte_level()
    source.chat_template = CHAT_TEMPLATE
    with pytest.raises(RequestRefused, match="no critics here") as raised:
        HuggingFaceTokenizer(source, vocab_size=300).encode_chat(turns([("critic", "bad")]))
    assert "messages" == raised.value.field


def test_without_a_template_there_is_no_chat() -> None:
    with pytest.raises(RequestRefused, match="the target model has no chat template"):
        HuggingFaceTokenizer(byte_level(), vocab_size=300).encode_chat(turns([("user", "hello")]))


def test_what_a_gguf_file_says_of_its_tokens_counts() -> None:
    """The tokenizer that is made from it lost one token and has the end by an id of its own."""
    source = byte_level()
    token_bytes = (*(bytes([i]) for i in range(256)), b"<|im_end|>", b"lost")
    said = GgufVocabulary(token_bytes, frozenset({256}))
    tokenizer = HuggingFaceTokenizer(source, vocab_size=258, file_vocabulary=said)
    assert (b"<|im_end|>", b"lost") == tokenizer.token_bytes[256:]
    assert 258 == source.eos_token_id
    assert {256} == tokenizer.end_ids
    assert {256, 257} == tokenizer.special_ids
    assert [256] == tokenizer.encode_text("<|im_end|>")


def test_an_id_that_the_model_does_not_have_is_refused() -> None:
    tokenizer = HuggingFaceTokenizer(byte_level(), vocab_size=259)
    with pytest.raises(RequestRefused, match="makes token id 259 of it, and the model has 259"):
        tokenizer.encode_text("né")


def test_what_is_set_around_a_prompt_can_be_left_out() -> None:
    source = byte_level()
    source.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 257)]
    )
    tokenizer = HuggingFaceTokenizer(source, vocab_size=300)
    assert [257, 256] == tokenizer.encode_text("ab")
    assert [256] == tokenizer.encode_text("ab", adds_special=False)


def test_added_runs_of_spaces_are_spaces_where_the_others_have_marks() -> None:
    source = sentencepiece()
    source.add_tokens([AddedToken("▁▁▁", normalized=False)])
    assert b"   " == HuggingFaceTokenizer(source, vocab_size=9).token_bytes[8]
