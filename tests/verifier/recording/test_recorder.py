"""A real verifier and boards over loopback: the recording says what its clients were told."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.generation.generation import Finished, GenerationRequest
from shared.errors import ConfigError
from shared.protocol.messages import AcceptanceMode
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.recordings import BEGIN
from tests.support.ends.scripted import board, scripted_service
from verifier.recording.recorder import Recorder, start_recording
from verifier.recording.recording_file import Recording, read_recording


def recorded(path: Path, requests: list[GenerationRequest]) -> tuple[Recording, list[Finished]]:
    async def play() -> list[Finished]:
        service = scripted_service(delay_seconds=lambda num_tokens: 0.005)
        recorder = start_recording(path, "scripted", {"policy": "fixed"})
        service.metrics.watchers.append(recorder)
        try:
            async with (
                running_verifier(service, ("near", "far")) as verifier,
                running_agent(verifier, board(), device="near") as near,
                running_agent(verifier, board(), device="far") as far,
            ):
                agents = (near, far)
                ended = [generate(agents[i % 2], each) for i, each in enumerate(requests)]
                return [finished for _, finished in await asyncio.gather(*ended)]
        finally:
            recorder.close()

    finished = asyncio.run(play())
    return read_recording(path), finished


def test_it_says_what_clients_were_told(tmp_path: Path) -> None:
    modes: tuple[AcceptanceMode, ...] = ("coupled", "rejection", "coupled")
    asked = GenerationRequest(messages=chat("hello"))
    requests = [
        replace(asked, seed=seed, max_tokens=30 + seed, acceptance_mode=mode)
        for seed, mode in enumerate(modes)
    ]
    recording, finished = recorded(tmp_path / "r.jsonl", requests)
    begun = list(recording.streams.values())
    assert [2, 1] == [sum(b.device == name for b in begun) for name in ("near", "far")]
    assert {"coupled", "rejection"} == {b.mode for b in begun}
    parts = [part for round_ in recording.rounds for part in round_.parts]
    told = [(f.timings.output_tokens, f.timings.accepted_tokens) for f in finished]
    for sums in told:
        assert sums in [
            (
                sum(p.num_accepted + p.num_own for p in parts if p.stream == number),
                sum(p.num_accepted for p in parts if p.stream == number),
            )
            for number in recording.streams
        ]
    assert {"length"} == {end.reason for end in recording.ends.values()}
    assert set(recording.streams) == set(recording.ends)
    assert all(0.005 <= r.target_seconds <= r.total_seconds for r in recording.rounds)
    speeds = recording.speeds
    assert {"near", "far"} == set(speeds)
    assert speeds["near"].draft_token_seconds is not None


def test_it_holds_no_token_of_a_text(tmp_path: Path) -> None:
    request = GenerationRequest(messages=chat("a secret"), seed=1, max_tokens=20)
    recorded(tmp_path / "r.jsonl", [request])
    content = (tmp_path / "r.jsonl").read_text()
    assert "secret" not in content
    assert "token_ids" not in content


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="is there already; name another file"):
        start_recording(tmp_path / "r.jsonl", "scripted", {})
    assert "mine" == (tmp_path / "r.jsonl").read_text()
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        start_recording(tmp_path / "none" / "r.jsonl", "scripted", {})


class FullDisk(BytesIO):
    """Takes the first write."""

    name = "r.jsonl"

    def write(self, content: object) -> int:
        """See `BytesIO`."""
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(content)  # type: ignore[call-overload, no-any-return]


def test_a_full_disk_ends_the_recording_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(FullDisk(), BEGIN)
    for _ in range(3):
        recorder._flush()
        recorder._tell_speeds(0.0)
    recorder.close()
    assert ["the recording r.jsonl ends here: [Errno 28] No space left on device"] == [
        record.getMessage() for record in caplog.records
    ]


def test_a_recording_never_grows_beyond_its_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r.jsonl"
    recorder = Recorder(path.open("xb"), BEGIN, most_bytes=200)
    for _ in range(5):
        recorder._tell_speeds(0.0)
        recorder._flush()
    recorder.close()
    assert 0 < path.stat().st_size <= 200
    assert [f"the recording {path} is full and ends here"] == [
        record.getMessage() for record in caplog.records
    ]
