"""The bytes of every id of a GGUF model, as llama.cpp reads them.

It must never guess what a token is: llama.cpp knows its kind of vocabulary and its attributes.
"""

from __future__ import annotations

import ctypes

from edge_agent.draft_model.llama_binding import llama_cpp
from shared.protocol.vocabulary import without_padding

# Longer pieces are read again with the room that they need.
_PIECE_BYTES = 1024
# How llama.cpp writes a character that its byte alphabet does not have (0.3.36, llama-vocab.cpp).
_UNKNOWN_CHARACTER = b"[UNK_BYTE_0x"


def read_token_bytes(vocab: llama_cpp.llama_vocab_p) -> tuple[bytes, ...]:
    """The literal bytes of every id; ids that pad a vocabulary have none."""
    num_ids = llama_cpp.llama_vocab_n_tokens(vocab)
    to_piece = llama_cpp.llama_token_to_piece
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    address = ctypes.addressof(buffer)
    token_bytes = []
    for token_id in range(num_ids):
        length = to_piece(vocab, token_id, buffer, _PIECE_BYTES, 0, True)
        piece = (
            ctypes.string_at(address, length) if length >= 0 else _long(vocab, token_id, -length)
        )
        if _UNKNOWN_CHARACTER in piece:
            piece = _plain_text(vocab, token_id, piece)
        token_bytes.append(piece)
    return without_padding(token_bytes)


def _long(vocab: llama_cpp.llama_vocab_p, token_id: int, num_bytes: int) -> bytes:
    buffer = ctypes.create_string_buffer(num_bytes)
    length = llama_cpp.llama_token_to_piece(vocab, token_id, buffer, num_bytes, 0, True)
    return buffer.raw[:length]


def _plain_text(vocab: llama_cpp.llama_vocab_p, token_id: int, piece: bytes) -> bytes:
    """The text of a byte-level token that is not written in the byte alphabet, but plainly.

    Command-R has such tokens. llama.cpp puts a remark in the place of each character; tokenizers
    take the whole token as it is written.
    """
    text: bytes = llama_cpp.llama_vocab_get_text(vocab, token_id)
    return piece if _UNKNOWN_CHARACTER in text else text
