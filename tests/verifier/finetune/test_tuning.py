"""A draft that is tuned on texts of streams is better there, and what is written stays apart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from shared.daemon.files import replace_file
from shared.errors import ModelError, RequestRefused
from tests.support.models.distilled_drafts import (
    TickingClock,
    Told,
    tiny_order,
)
from verifier.drafts.tuning_job import SEEN, TunedText, TuningJob
from verifier.finetune import tuning
from verifier.finetune.making import make_draft
from verifier.finetune.tuning import tune


def continued(target: Path, prompt_ids: tuple[int, ...], num_tokens: int) -> tuple[int, ...]:
    """What the target writes, greedily."""
    drafter = LlamaDrafter(target, 1, 128, 1, 1)
    try:
        token_ids: list[int] = []
        step = prompt_ids
        for _ in range(num_tokens):
            (row,) = drafter.forward([Forward(0, step, wants_logits=True)])
            assert row is not None
            step = (int(np.argmax(row[:256])),)
            token_ids += step
        return tuple(token_ids)
    finally:
        drafter.close()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TuningJob:
    """A tiny target and a draft of it that has learned hardly anything."""
    directory = tmp_path_factory.mktemp("tuning")
    order = tiny_order(directory, minutes=0.2)
    make_draft(order, Told(), TickingClock())
    answers = [continued(order.target, (5, 6, 7, number), 20) for number in range(4)]
    texts = tuple(
        TunedText((5, 6, 7, number % 4, *answers[number % 4][:cut]), answers[number % 4][cut:])
        for number in range(16)
        for cut in (0, 4)
    )
    texts = tuple(msgspec.structs.replace(text, is_greedy=True) for text in texts)
    replay = directory / "replay.texts"
    written = [[number, 1.0, [60 + number, 61 + number, 62]] for number in range(32)]
    prompts = [[9, number] for number in range(32)]
    kept = {"prompts": prompts, "domains": ["self"] * 32, "texts": written}
    replace_file(replay, msgspec.msgpack.encode(kept), mode=0o600)
    return TuningJob(
        target=order.target,
        draft=order.out,
        out=directory / "candidate.gguf",
        replay=replay,
        texts=texts,
        seconds=80.0,
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_REPLAY_QUESTIONS", 8)
    monkeypatch.setattr(tuning, "_REPLAY_MINUTES", {"cpu": 0.1})
    monkeypatch.setattr(tuning, "_STEP_TOKENS", 256)


def test_it_learns_what_streams_showed_and_llama_cpp_runs_it(job: TuningJob) -> None:
    result = tune(job, Told(), TickingClock())
    assert "" == result.fault
    assert result.num_steps
    seen = [pair for pair in result.pairs if pair.domain == SEEN]
    assert seen
    assert {SEEN, "self"} == {pair.domain for pair in result.pairs}, "its own texts, too"
    assert sum(pair.after for pair in seen) > sum(pair.before for pair in seen)
    drafter = LlamaDrafter(job.out, 1, 64, 1, 1)
    try:
        (row,) = drafter.forward([Forward(0, (5, 6, 7), wants_logits=True)])
        assert row is not None
        assert np.isfinite(row).all()
    finally:
        drafter.close()


def test_no_text_of_a_stream_is_written_anywhere(job: TuningJob) -> None:
    tune(job, Told(), TickingClock())
    secret_ids = list(job.texts[0].token_ids)[-12:]
    secret = msgspec.msgpack.encode(secret_ids)[1:]
    for path in job.out.parent.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert secret not in content, path
            assert np.array(secret_ids, dtype=np.int32).tobytes() not in content, path
    assert job.replay.stat().st_mode & 0o077 == 0


def test_too_few_texts_are_one_sentence(job: TuningJob, tmp_path: Path) -> None:
    none = msgspec.structs.replace(job, texts=(), replay=tmp_path / "replay.texts")
    (tmp_path / "replay.texts").write_bytes(
        msgspec.msgpack.encode({"prompts": [], "domains": [], "texts": []})
    )
    with pytest.raises(ModelError, match="too few texts to learn from"):
        tune(none, Told(), TickingClock())


def test_a_target_that_asks_itself_nothing_is_one_sentence(job: TuningJob, tmp_path: Path) -> None:
    alone = msgspec.structs.replace(job, replay=tmp_path / "replay.texts")
    with pytest.raises(RequestRefused, match="the target asked itself nothing"):
        tune(alone, Told(), TickingClock())
    assert [] == list(tmp_path.iterdir())
