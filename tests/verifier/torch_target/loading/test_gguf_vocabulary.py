"""The bytes of every id of a GGUF file, by what the file says of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import pytest

from shared.errors import ModelError
from tests.support.models.board_vocabulary import board_vocabulary
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = (
    gguf.TokenType.NORMAL,
    gguf.TokenType.UNKNOWN,
    gguf.TokenType.CONTROL,
    gguf.TokenType.USER_DEFINED,
    gguf.TokenType.UNUSED,
    gguf.TokenType.BYTE,
)


def write(path: Path, kind: str, tokens: Sequence[tuple[str | bytes, int]]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre("default")
    writer.add_token_list([name for name, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(token_type) for _, token_type in tokens])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


BYTE_LEVEL = (
    ("<|end|>", CONTROL, b"<|end|>"),
    ("Ċ", NORMAL, b"\n"),
    ("Ġworld", NORMAL, b" world"),
    ("ÿ", NORMAL, b"\xff"),
    ("▁x", NORMAL, "▁x".encode()),  # not in the byte alphabet: added as plain text
    ("né", USER_DEFINED, "né".encode()),
    ("  ", USER_DEFINED, b"  "),
    ("<0x41>", NORMAL, b"<0x41>"),
    ("[PAD7]", UNUSED, b""),
)
SENTENCEPIECE = (
    ("<unk>", UNKNOWN, b"<unk>"),
    ("</s>", CONTROL, b"</s>"),
    ("<0xE2>", BYTE, b"\xe2"),
    ("<0x0A>", BYTE, b"\n"),
    ("▁the", NORMAL, b" the"),
    ("▁▁", USER_DEFINED, "▁▁".encode()),
    ("<0x41>", NORMAL, b"<0x41>"),
    ("Ġx", NORMAL, "Ġx".encode()),
    ("[PAD8]", UNUSED, b""),
)


@pytest.mark.parametrize(("kind", "table"), [("gpt2", BYTE_LEVEL), ("llama", SENTENCEPIECE)])
def test_both_ends_read_every_type_of_token_alike(
    kind: str, table: tuple[tuple[str, int, bytes], ...], tmp_path: Path
) -> None:
    # llama.cpp looks for the bytes of a line feed and of a space among the SentencePiece tokens.
    tokens = [(name, token_type) for name, token_type, _ in table]
    path = write(tmp_path / "v.gguf", kind, tokens)
    expected = tuple(token_bytes for _, _, token_bytes in table)
    vocabulary = read_gguf_vocabulary(path)
    assert expected == vocabulary.token_bytes
    assert expected == board_vocabulary(path)
    silent = {i for i, (_, token_type) in enumerate(tokens) if token_type in (CONTROL, UNKNOWN)}
    assert silent == vocabulary.special_ids


def test_a_kind_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "v.gguf", "rwkv", [("a", NORMAL)])
    with pytest.raises(ModelError, match="is of the kind rwkv; a target can have gpt2, llama"):
        read_gguf_vocabulary(path)


@pytest.mark.parametrize("num_bytes", [0, 3, 20, 30, 200, 400])
def test_a_broken_file_is_one_sentence(num_bytes: int, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf", "gpt2", [("a", NORMAL), ("b", NORMAL)]).read_bytes()
    assert len(whole) > num_bytes
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole[:num_bytes])
    with pytest.raises(
        ModelError, match=r"broken\.gguf is (not a GGUF file|cut: it ends within its head)"
    ):
        read_gguf_vocabulary(broken)


def test_a_file_without_a_vocabulary_says_so(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "llama")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"v\.gguf has no vocabulary"):
        read_gguf_vocabulary(tmp_path / "v.gguf")
