"""What an operator asks of workers is carried out once, by the verifier that runs then."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from tests.support.ends.planning import make_planner
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.worker import Worker, WorkerState
from verifier.engine.worker_orders import (
    NO_ORDERS,
    Orders,
    OrdersInForce,
    WorkerOrders,
    pack_orders,
    read_orders,
)


class Held:
    """Of an engine only what is asked of it."""

    def __init__(self) -> None:
        self.num_holds = 0

    def hold(self) -> None:
        self.num_holds += 1


def workers(count: int) -> ManyWorkers:
    made = []
    for number in range(count):
        worker = Worker(number, None, make_planner(), None)  # type: ignore[arg-type]
        worker.engine = Held()  # type: ignore[assignment]
        made.append(worker)
    return ManyWorkers(made)


def test_an_order_is_carried_out_once() -> None:
    many = workers(2)
    orders = OrdersInForce(many, Orders({0: WorkerOrders(num_drains=3)}))
    orders.take_over(Orders({0: WorkerOrders(num_drains=3)}))
    assert WorkerState.SERVING is many.workers[0].state
    orders.take_over(Orders({0: WorkerOrders(num_drains=4)}))
    assert WorkerState.DRAINING is many.workers[0].state
    orders.take_over(Orders({0: WorkerOrders(num_drains=4), 7: WorkerOrders(num_restarts=1)}))
    assert WorkerState.SERVING is many.workers[1].state


def test_the_last_worker_is_not_drained_but_may_be_restarted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    many = workers(1)
    orders = OrdersInForce(many, NO_ORDERS)
    orders.take_over(Orders({0: WorkerOrders(num_drains=1)}))
    assert "worker 0 stays as it is: worker 0 is the last one that serves" in caplog.text
    assert WorkerState.SERVING is many.workers[0].state
    orders.take_over(Orders({0: WorkerOrders(num_drains=1, num_restarts=1)}))
    assert WorkerState.DRAINING is many.workers[0].state
    assert many.workers[0].is_lost_by_intent


def test_a_file_of_orders_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "workers.json"
    assert NO_ORDERS == read_orders(path)
    written = Orders({1: WorkerOrders(2, 1), 0: WorkerOrders()}, ("ray", "10.0.0.4:8444"))
    path.write_bytes(pack_orders(written))
    assert written == read_orders(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="workers"):
        read_orders(path)


def test_each_worker_that_is_to_join_does_so_once(caplog: pytest.LogCaptureFixture) -> None:
    many, asked = workers(1), []
    many.add_worker = asked.append  # type: ignore[method-assign]
    orders = OrdersInForce(many, Orders(added=("10.0.0.3:8444",)))
    orders.take_over(Orders(added=("10.0.0.3:8444", "ray")))
    orders.take_over(Orders(added=("10.0.0.3:8444", "ray", "ray")))
    assert ["ray", "ray"] == asked
    orders = OrdersInForce(workers(1), NO_ORDERS)
    orders.take_over(Orders(added=("ray",)))
    assert "no worker joins at ray: this verifier's workers are all" in caplog.text
