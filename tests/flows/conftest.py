"""Prefect's server for all tests of flows in a process: it takes as long to start as most of them last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect() -> Iterator[str]:
    """A throw-away server that ends with the tests; its address, for flows that run in a process of their own."""
    import flows  # noqa: F401, I001 - first, for it sets Prefect up offline
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield str(PREFECT_API_URL.value())
