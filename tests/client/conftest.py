"""An app on the session's server, and a worker in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blazing_nb import Blazing, Worker


@pytest.fixture
def app(url: str, app_id: str) -> Iterator[Blazing]:
    with Blazing(app_id, url=url, node_id="n1") as made:
        yield made


@pytest.fixture
def worker(url: str, app: Blazing) -> Iterator[Worker]:
    made = Worker(app.app_id, url=url).start()
    yield made
    made.close()
