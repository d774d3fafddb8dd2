"""What an app leaves on its machine is its user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from blazing_nb import Blazing
from blazing_nb.store import embedded


@pytest.mark.slow
def test_nothing_that_an_app_leaves_can_be_read_by_others(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLAZING_SOCKET_DIR", str(fresh_home / "run"))
    before = os.umask(0)  # nothing is owed to the umask
    try:
        with Blazing("private", outbox=True) as app:
            app.channel("news", share_with=["reports"]).publish("x")
            app.workers.start(1)
            app.step(lambda text: print(text), name="say").enqueue("secret").result(timeout=30)
            server = embedded.find()
            paths = {path: stat.S_IMODE(path.lstat().st_mode) for path in fresh_home.rglob("*")}
            app.workers.stop()
    finally:
        os.umask(before)
    assert server is not None and Path(server.socket) in paths
    assert {"private.json", "reports.d", "server.conf"} <= {path.name for path in paths}
    of_the_server = fresh_home / "server"  # it makes files of its own there, in a directory that is closed
    assert paths[of_the_server] == 0o700
    assert {path: oct(mode) for path, mode in paths.items() if mode & 0o077 and of_the_server not in path.parents} == {}
