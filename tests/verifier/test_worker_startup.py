"""Workers with a real model, in processes of their own: loaded, killed, with equal texts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.config.sections import load_config
from shared.errors import ConfigError, LinkLost
from shared.protocol.messages import Open
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.waiting import eventually
from tests.support.models.tiny_directory import write_tiny_directory
from tests.support.programs.children import children_of
from tests.verifier.engine.test_service import Mailbox, running
from verifier.config import VerifierConfig
from verifier.engine.service import VerifierService
from verifier.startup import load_service
from verifier.worker_startup import load_service_of_workers
from verifier.workers.local_worker import LocalWorker
from verifier.workers.on_ray.placed_worker import PlacedWorker

NUM_STREAMS, NUM_TOKENS = 6, 60
PATIENCE_SECONDS = 240.0


def config_of(model: Path, **settings: object) -> VerifierConfig:
    overrides: dict[str, object] = {
        "target.model": str(model),
        "target.device": "cpu",
        "target.dtype": "float32",
        "target.threads": 1,
        "target.context_tokens": 128,
        "target.kv_cache_tokens": 2048,
        "rounds.max_round_tokens": 64,
        "rounds.prefill_chunk_tokens": 64,
    }
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(VerifierConfig, overrides={**overrides, **named}).config


def itself(worker: int) -> int:
    return worker


def one_of_its_ranks(worker: int) -> int:
    return children_of(worker, "kept_rank")[0]


async def texts(
    service: VerifierService, killed: Callable[[int], int] | None = None
) -> list[list[int]]:
    """Of a service that runs for them alone; `killed` as in `texts_meanwhile`."""
    async with running(service):
        return await texts_meanwhile(service, killed)


async def texts_meanwhile(
    service: VerifierService, killed: Callable[[int], int] | None = None, first: int = 0
) -> list[list[int]]:
    """Of a service that runs, in streams from the number `first` on.

    `killed` is one of the first worker's processes, by the process of that worker.
    """
    boxes = [Mailbox() for _ in range(NUM_STREAMS)]
    for i, box in enumerate(boxes):
        sampling = GREEDY if i % 2 else SamplingParameters(0.9)
        prompt = pack_token_ids([5, 6, 7 + i])
        asked = Open(first + i, i, prompt=prompt, sampling=sampling, seed=i, max_tokens=NUM_TOKENS)
        await service.open_stream(service.device(f"board-{i}"), box, asked)
    if killed is not None:
        await eventually(lambda: all(len(b.verdicts) > 3 for b in boxes), PATIENCE_SECONDS)
        assert service.workers is not None
        source = service.workers.workers[0].source
        assert isinstance(source, LocalWorker | PlacedWorker)
        assert source.process_id is not None
        os.kill(killed(source.process_id), signal.SIGKILL)
    await eventually(lambda: all(box.ended for box in boxes), PATIENCE_SECONDS)
    return [[t for v in box.verdicts for t in v.tokens] for box in boxes]


def test_texts_of_two_workers_of_which_one_is_killed_are_those_of_one_process(
    tmp_path: Path,
) -> None:
    write_tiny_directory(tmp_path)
    own = load_service(config_of(tmp_path), lambda told: None)
    expected = asyncio.run(texts(own))
    told: list[str] = []
    config = config_of(tmp_path, workers__local=2)
    service = load_service_of_workers(config, told.append)
    assert any("at 2 workers" in sentence for sentence in told)
    assert own.fingerprint == service.fingerprint
    assert service.workers is not None
    assert expected == asyncio.run(texts(service, itself))
    assert 1 == service.workers.workers[0].num_lost


@pytest.mark.slow
def test_texts_of_two_workers_on_ray_of_which_one_is_killed_are_those_of_one_process(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    write_tiny_directory(tmp_path)
    own = load_service(config_of(tmp_path), lambda told: None)
    expected = asyncio.run(texts(own))
    config = config_of(tmp_path, workers__ray="local", workers__on_ray=2)
    service = load_service_of_workers(config, lambda told: None)
    assert own.fingerprint == service.fingerprint
    assert expected == asyncio.run(texts(service, itself))
    assert service.workers is not None
    assert [1, 0] == [worker.num_lost for worker in service.workers.workers]


def test_texts_of_a_target_over_two_ranks_of_which_one_is_killed_are_those_of_one_process(
    tmp_path: Path,
) -> None:
    write_tiny_directory(tmp_path)
    own = load_service(config_of(tmp_path), lambda told: None)
    expected = asyncio.run(texts(own))
    config = config_of(tmp_path, workers__local=1, workers__gpus_per_worker=2)
    service = load_service_of_workers(config, lambda told: None)
    assert own.fingerprint == service.fingerprint
    assert expected == asyncio.run(texts(service, one_of_its_ranks))
    assert service.workers is not None
    assert 1 == service.workers.workers[0].num_lost


def test_a_model_that_cannot_be_split_so_ends_the_start(tmp_path: Path) -> None:
    write_tiny_directory(tmp_path)  # 4 heads
    config = config_of(tmp_path, workers__local=1, workers__gpus_per_worker=3)
    with pytest.raises(LinkLost, match="ended with status 2 before it served"):
        load_service_of_workers(config, lambda told: None)


def test_a_model_that_is_not_there_ends_the_start_with_its_worker(tmp_path: Path) -> None:
    config = config_of(tmp_path / "nothing", workers__local=1)
    with pytest.raises(LinkLost, match="ended with status 2 before it served"):
        load_service_of_workers(config, lambda told: None)


def test_addresses_need_a_secret() -> None:
    with pytest.raises(ConfigError, match=r"workers\.secret_file"):
        load_config(VerifierConfig, overrides={"workers.addresses": ["10.0.0.2:8444"]})


@pytest.mark.parametrize("address", ["10.0.0.2", "host:", ":80", "a b:80", "host:port"])
def test_an_address_that_is_none_is_a_wrong_setting(address: str, tmp_path: Path) -> None:
    overrides = {"workers.addresses": [address], "workers.secret_file": str(tmp_path / "secret")}
    with pytest.raises(ConfigError, match=r"workers\.addresses"):
        load_config(VerifierConfig, overrides=overrides)
