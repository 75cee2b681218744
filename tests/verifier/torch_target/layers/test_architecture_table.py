"""The table of architectures says what is served, and what a GPU would do fast, as it is now."""

from __future__ import annotations

from tests.support.models.triton_kernels import import_triton

import_triton()

from tests.benchmarks.architecture_table import PAGE, architecture_page  # noqa: E402


def test_the_page_is_up_to_date() -> None:
    assert architecture_page() == PAGE.read_text()
