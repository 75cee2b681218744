"""The reader whose arrays are read at once finds what gguf's own finds, without a step per item."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.models.vocabularies import shipped_vocabulary
from verifier.torch_target.loading.gguf_bulk_reader import BulkReader
from verifier.torch_target.loading.gguf_reading import reading_once


def contents(reader: gguf.GGUFReader) -> dict[str, tuple[list[int], Any]]:
    return {name: (field.types, field.contents()) for name, field in reader.fields.items()}


def add_arrays(writer: gguf.GGUFWriter) -> None:
    """One array of each kind of number, and one that is empty."""
    for kind in ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64"):
        writer.add_key_value(
            f"test.{kind}", [1, 2, 3], gguf.GGUFValueType.ARRAY, getattr(gguf.GGUFValueType, kind)
        )
    for kind, values in (("FLOAT32", [0.5, 2.0]), ("FLOAT64", [0.1]), ("BOOL", [True, False])):
        writer.add_key_value(
            f"test.{kind}", values, gguf.GGUFValueType.ARRAY, getattr(gguf.GGUFValueType, kind)
        )
    writer.add_array("test.texts", ["", "é", "a" * 300])


def test_it_finds_what_ggufs_own_reader_finds(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf", edit=add_arrays)
    own, bulk = gguf.GGUFReader(tmp_path / "tiny.gguf"), BulkReader(tmp_path / "tiny.gguf")
    assert contents(own) == contents(bulk)
    assert [tensor.name for tensor in own.tensors] == [tensor.name for tensor in bulk.tensors]
    for one, other in zip(own.tensors, bulk.tensors, strict=True):
        assert np.array_equal(one.data, other.data)


@pytest.mark.parametrize("name", ["phi-3", "llama-spm"])
def test_so_it_does_in_a_real_vocabulary(name: str) -> None:
    path = shipped_vocabulary(name)
    assert contents(gguf.GGUFReader(path)) == contents(BulkReader(path))


def test_the_largest_vocabulary_takes_no_step_for_each_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gguf's own reader takes more than a million."""
    steps = 0
    own_get = gguf.GGUFReader._get

    def counted(self: gguf.GGUFReader, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        return own_get(self, *args, **kwargs)

    monkeypatch.setattr(gguf.GGUFReader, "_get", counted)
    reader = BulkReader(shipped_vocabulary("gemma-4"))
    assert 262_144 == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert steps < 1000


@pytest.mark.parametrize("num_bytes", [2000, 2002, 4900])
def test_a_cut_file_is_refused_as_by_ggufs_own_reader(num_bytes: int, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    content = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[:num_bytes])
    with pytest.raises((ValueError, IndexError)):
        gguf.GGUFReader(tmp_path / "cut.gguf")
    with pytest.raises(ValueError, match="is cut"):
        BulkReader(tmp_path / "cut.gguf")


def test_while_a_model_is_read_cycles_wait() -> None:
    assert gc.isenabled()
    with reading_once():
        assert not gc.isenabled()
        assert gguf.GGUFReader is not BulkReader.__base__
    assert gc.isenabled()
    assert gguf.GGUFReader is BulkReader.__base__
