"""A saved curve is used for what it was measured of, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.daemon.files import replace_file
from verifier.cost_curve.curve import CostCurve, CurveSubject
from verifier.cost_curve.files import curve_path, read_curve

SUBJECT = CurveSubject(model="llama", device="NVIDIA H100", dtype="bfloat16", quantisation="none")
SAMPLES = [(1, 0, 0.01), (8, 0, 0.02)]


def keep(path: Path, curve: CostCurve) -> None:
    replace_file(path, curve.to_json(), mode=0o644)


def test_a_saved_curve_reads_back(tmp_path: Path) -> None:
    path = curve_path(tmp_path / "new" / "state", "llama")
    curve = CostCurve.from_samples(SAMPLES, SUBJECT)
    keep(path, curve)
    read = read_curve(path, SUBJECT)
    assert read is not None
    assert curve.to_json() == read.to_json()
    assert [path] == list(path.parent.iterdir())


def test_no_file_is_no_curve_and_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_curve(tmp_path / "llama.curve.json", SUBJECT) is None
    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "qwen"),
        ("device", "NVIDIA H200"),
        ("dtype", "float16"),
        ("quantisation", "int8"),
    ],
)
def test_a_curve_of_something_else_is_not_used_and_says_what_differs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    path = tmp_path / "curve.json"
    other = msgspec.structs.replace(SUBJECT, **{name: value})
    keep(path, CostCurve.from_samples(SAMPLES, other))
    assert read_curve(path, SUBJECT) is None
    ours = getattr(SUBJECT, name)
    expected = f"{path}: a cost curve of {name} {value} instead of {ours}; measuring again"
    assert [expected] == caplog.messages


def test_a_curve_that_does_not_say_what_was_measured_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "curve.json"
    keep(path, CostCurve.from_samples(SAMPLES))
    assert read_curve(path, SUBJECT) is None
    assert "does not say what was measured" in caplog.text


def test_a_file_from_before_chunks_were_measured_is_measured_again_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "curve.json"
    content = msgspec.json.decode(CostCurve.from_samples(SAMPLES, SUBJECT).to_json())
    del content["look_back"]
    path.write_bytes(msgspec.json.encode(content))
    assert read_curve(path, SUBJECT) is None
    (line,) = caplog.messages
    assert "look_back" in line
    assert line.endswith("measuring again")


def test_a_broken_file_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "curve.json"
    path.write_bytes(b'{"num_tok')
    assert read_curve(path, SUBJECT) is None
    assert "not a cost curve" in caplog.text
