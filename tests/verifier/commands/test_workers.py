"""`goodspeed-verifier workers` beside a running verifier, over real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import service_of
from tests.verifier.engine.test_many_workers import thread_workers
from verifier.cli import main
from verifier.engine.service import VerifierService
from verifier.engine.worker import WorkerState
from verifier.engine.worker_orders import FILE_NAME, OrdersInForce, WorkerOrders, read_orders


def asked(directory: Path, port: int, *arguments: str) -> Result:
    settings = directory / "verifier.toml"
    settings.write_text(f'[server]\nport = {port}\n[state]\ndirectory = "{directory / "state"}"\n')
    return CliRunner().invoke(main, ["workers", *arguments, "--config", str(settings)])


async def listed(service: VerifierService, directory: Path, *arguments: str) -> Result:
    async with running_verifier(service) as verifier:
        return await asyncio.to_thread(asked, directory, verifier.port, "list", *arguments)


def test_workers_are_listed_with_what_they_do(tmp_path: Path) -> None:
    with thread_workers(2) as sources:
        result = asyncio.run(listed(service_of(sources), tmp_path, "--json"))
        assert 0 == result.exit_code, result.output
        first, second = json.loads(result.stdout)["workers"]
        assert (0, "worker 0", "serving") == (first["number"], first["name"], first["state"])
        assert 1 == second["number"]
        result = asyncio.run(listed(service_of(sources), tmp_path))
        assert "worker 1" in result.stdout
        assert 2 == result.stdout.count("serving")


def test_a_verifier_without_workers_says_so(tmp_path: Path) -> None:
    result = asyncio.run(listed(scripted_service(), tmp_path))
    assert "the verifier has no workers" in result.stdout


def test_where_no_verifier_answers_that_is_the_sentence(tmp_path: Path) -> None:
    result = asked(tmp_path, 1, "list")
    assert 0 != result.exit_code
    assert "no verifier answers at 127.0.0.1:1" in result.output + result.stderr


def test_orders_add_up_in_a_file_that_the_verifier_takes_over(tmp_path: Path) -> None:
    for arguments in (("drain", "1"), ("restart", "0"), ("restart", "0")):
        assert 0 == asked(tmp_path, 1, *arguments).exit_code
    path = tmp_path / "state" / FILE_NAME
    assert {0: WorkerOrders(0, 2), 1: WorkerOrders(1, 0)} == read_orders(path).workers

    async def run() -> None:
        with thread_workers(2) as sources:
            service = service_of(sources)
            assert service.workers is not None
            async with running_verifier(service):
                orders = OrdersInForce(service.workers, read_orders(path))
                assert 0 == asked(tmp_path, 1, "drain", "1").exit_code
                orders.take_over(read_orders(path))
                worker = service.workers.workers[1]
                await eventually(lambda: worker.state is WorkerState.DRAINED)

    asyncio.run(run())


@pytest.mark.parametrize("arguments", [("drain",), ("drain", "64"), ("restart", "x")])
def test_a_wrong_number_is_said(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert 2 == asked(tmp_path, 1, *arguments).exit_code


def test_orders_need_a_directory_of_state(tmp_path: Path) -> None:
    empty = tmp_path / "verifier.toml"
    empty.write_text("")
    result = CliRunner().invoke(main, ["workers", "drain", "0", "--config", str(empty)])
    assert 78 == result.exit_code
    assert "state.directory: must be set" in result.stderr


def test_a_worker_is_added_at_an_address_with_a_secret_or_at_ray(tmp_path: Path) -> None:
    refused = asked(tmp_path, 1, "add", "10.0.0.4:8444")
    assert 78 == refused.exit_code
    assert "workers.secret_file: must be set" in refused.stderr
    assert 78 == asked(tmp_path, 1, "add", "somewhere").exit_code
    secret = f"--set=workers.secret_file={tmp_path / 'secret'}"
    assert 0 == asked(tmp_path, 1, "add", "10.0.0.4:8444", secret).exit_code
    assert 0 == asked(tmp_path, 1, "add").exit_code
    assert ("10.0.0.4:8444", "ray") == read_orders(tmp_path / "state" / FILE_NAME).added
