"""The user's own settings of the threads are left alone."""

from __future__ import annotations

from shared.daemon.resources.cpu_threads import limit_spinning


def test_the_limit_is_set_unless_the_user_set_one() -> None:
    environ: dict[str, str] = {}
    limit_spinning(environ)
    assert {"GOMP_SPINCOUNT": "3000"} == environ
    chosen = {"GOMP_SPINCOUNT": "77"}
    limit_spinning(chosen)
    assert {"GOMP_SPINCOUNT": "77"} == chosen
