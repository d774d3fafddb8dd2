"""S13: a rolling upgrade. Two versions of the package work on one store: scripts are addressed by their content."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import blazing_nb
from blazing_nb import Blazing
from blazing_nb.store import script
from tests.conftest import Child

MARK = "-- of another version\n"
PACKAGE = Path(blazing_nb.__file__).parent


def where() -> str:
    """Which package runs this."""
    import time

    import blazing_nb

    time.sleep(0.005)
    return blazing_nb.__version__


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The package of tomorrow: another version, and every script of another text."""
    copy = tmp_path / "newer" / "blazing_nb"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    init = copy / "__init__.py"
    init.write_text(init.read_text().replace(f'"{blazing_nb.__version__}"', '"99.0.0"'))
    for path in (copy / "store" / "lua").glob("[!_]*.lua"):
        path.write_text(path.read_text() + MARK)
    return copy.parent


@pytest.fixture
def workers(newer: Path, url: str, app_id: str) -> Iterator[None]:
    """One of each version: `-m` takes the package of the directory that it is started in."""
    command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app_id, "--url", url, "--threads", "2"]
    children = [
        Child(["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]) for folder in (PACKAGE.parent, newer)
    ]
    for child in children:
        child.wait_for_line(lambda line: line.startswith("ready"))
    yield
    for child in children:
        child.kill()


def test_s13_two_versions_of_the_package_work_on_one_store(workers: None, url: str, app_id: str) -> None:
    with Blazing(app_id, url=url) as app:
        assert {worker.version for worker in app.snapshot().workers} == {blazing_nb.__version__, "99.0.0"}
        versions = app.step(lambda n: where(), name="where").map(range(400)).results(60)
        assert set(versions) == {blazing_nb.__version__, "99.0.0"}
        stats = app.snapshot().steps[0]
        assert (stats.succeeded, stats.failed, stats.fenced, stats.lost) == (400, 0, 0, 0)
        ours = script.load("turn")
        theirs = hashlib.sha1((ours.text + MARK).encode(), usedforsecurity=False).hexdigest()
        assert app.store.connection().call("SCRIPT", "EXISTS", ours.sha, theirs) == [1, 1]
