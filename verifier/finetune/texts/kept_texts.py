"""A target's texts on disk, so that an interrupted run need not write them again.

Token ids only: final states would be a thousand times as large, and one pass over the texts gives
them back.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from shared.daemon.files import replace_file
from shared.errors import ModelError
from verifier.finetune.llama.llama_model import LlamaModel, final_states
from verifier.finetune.texts.written_texts import TextPlace, WrittenTexts, padded

_ROW_TOKENS = 32_768  # that are read together


class KeptText(msgspec.Struct, array_like=True):
    """One answer."""

    prompt_index: int
    temperature: float
    tokens: list[int]


class KeptTexts(msgspec.Struct):
    """Token ids of prompts, and what the target wrote on them."""

    prompts: list[list[int]]
    domains: list[str]
    texts: list[KeptText]


def keep_texts(texts: WrittenTexts, path: Path) -> None:
    """Write them in one step.

    Raises:
        OSError: they cannot be written.
    """
    kept = [
        KeptText(place.prompt_index, place.temperature, answer.tolist())
        for place, answer in zip(texts.places, texts.answers(texts.places), strict=True)
    ]
    prompts = [list(prompt) for prompt in texts.prompts]
    packed = msgspec.msgpack.encode(KeptTexts(prompts, list(texts.domains), kept))
    replace_file(path, packed, mode=0o600)


def kept_texts(path: Path, model: LlamaModel, dtype: torch.dtype) -> WrittenTexts:
    """The texts, with the model's states before each token of an answer.

    Raises:
        ModelError: the file is broken.
    """
    return read_again(unpack_texts(path), model, dtype)


def unpack_texts(path: Path) -> KeptTexts:
    """The token ids of a file.

    Raises:
        ModelError: the file is broken.
    """
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=KeptTexts)
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"cannot read {path}: {error}; delete it to begin anew") from error


def read_again(kept: KeptTexts, model: LlamaModel, dtype: torch.dtype) -> WrittenTexts:
    """Texts by their ids, with the model's states before each token of an answer."""
    device = model.last_norm.device
    places, num_rows = [], 0
    for text in kept.texts:
        places.append(TextPlace(text.prompt_index, text.temperature, num_rows, len(text.tokens)))
        num_rows += len(text.tokens)
    found = WrittenTexts(
        tuple(map(tuple, kept.prompts)),
        tuple(kept.domains),
        tuple(places),
        torch.tensor([i for text in kept.texts for i in text.tokens], dtype=torch.int32).to(device),
        torch.zeros(num_rows, model.shape.hidden, dtype=dtype, device=device),
        stride=1,
    )
    _fill_in_states(found, model, dtype)
    return found


@torch.no_grad()
def _fill_in_states(texts: WrittenTexts, model: LlamaModel, dtype: torch.dtype) -> None:
    """Fill in the states; texts of about one length go together."""
    weights = model.weights(dtype)
    answers = texts.answers(texts.places)
    order = sorted(zip(texts.places, answers, strict=True), key=lambda one: _length(texts, one[0]))
    while order:
        width = _length(texts, order[-1][0])
        together = [order.pop() for _ in range(min(len(order), max(1, _ROW_TOKENS // width)))]
        prompts = [texts.prompts[place.prompt_index] for place, _ in together]
        ids = padded(prompts, [answer for _, answer in together], width).long()
        rotation = model.rotation(width, dtype)
        states = final_states(model.shape, weights, rotation, ids.to(texts.tokens.device))
        for row, (place, _) in enumerate(together):
            start = len(texts.prompts[place.prompt_index]) - 1
            texts.states[texts.rows(place)] = states[row, start : start + place.num_tokens]


def _length(texts: WrittenTexts, place: TextPlace) -> int:
    return len(texts.prompts[place.prompt_index]) + place.num_tokens
