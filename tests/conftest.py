"""Fixtures: one real server for the session, an app per test, worker processes. Nothing is faked."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, settings

from blazing_nb import Blazing, Worker
from blazing_nb.client.proxy import Proxy

START_TIMEOUT = 20.0

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
WorkerFactory = Callable[..., "Child"]

_numbers = itertools.count(1)


def python_command(*arguments: str) -> list[str]:
    """`blazing-nb ARGUMENTS` of this environment."""
    return [sys.executable, "-m", "blazing_nb", *arguments]


class Child:
    """A process started by command, its output read as it comes. Killed by its own pid, never by name."""

    def __init__(self, command: list[str], cwd: Path | None = None) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Steps defined in test modules are imported by path in the workers.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for_line(self, matches: Callable[[str], bool], timeout: float = START_TIMEOUT) -> str:
        """The first line that matches; fails with the whole output when the process ends or the time does."""

        def found() -> bool:
            return self._ended or any(map(matches, self.lines))

        with self._changed:
            self._changed.wait_for(found, timeout)
            line = next(filter(matches, self.lines), None)
        if line is None:
            self.kill()
            pytest.fail(f"{self.process.args!r} was not ready, and said:\n{''.join(self.lines)}")
        return line

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = START_TIMEOUT) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL ends a stopped process too. Repeatable."""
        self.process.kill()
        self.process.wait(START_TIMEOUT)
        self._reader.join(START_TIMEOUT)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A private directory whose path is short: a socket's path must stay under 104 bytes."""
    path = Path(tempfile.mkdtemp(prefix="bz-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session", autouse=True)
def blazing_home(short_dir: Path) -> Iterator[Path]:
    """The tests' secrets, sockets and state stay apart from the user's; inherited settings do not leak in."""
    home = short_dir / "home"
    home.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLAZING_HOME", str(home))
        for name in ("BLAZING_REDIS_URL", "NODE_ID"):
            patch.delenv(name, raising=False)
        yield home


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "what the tests' store is: redis (default), valkey, sentinel or cluster; or BLAZING_TEST_SERVER"
    parser.addoption("--shards", type=int, default=1, help="how many shards the tests' apps have")
    parser.addoption("--server", default=os.environ.get("BLAZING_TEST_SERVER", ""), help=text)


@pytest.fixture(scope="session")
def url(store_url: str) -> str:
    """The tests' store, as `--server` says."""
    return store_url


@pytest.fixture(scope="session")
def store_url(short_dir: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of the session's own. A missing server is a failure, never a skip."""
    from blazing_nb.store.candidate import find_binary

    if kind := request.config.getoption("--server"):
        from tests.deployment import deployed

        with deployed(kind, calm=True) as deployment:
            yield deployment.url
        return
    socket = short_dir / "s.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    server = Child([*command, "--dir", str(short_dir), "--save", "", "--appendonly", "no", "--logfile", ""])
    try:
        server.wait_for_line(lambda line: "ready to accept connections" in line.lower())
        yield f"unix://{socket}"
    finally:
        server.kill()


@pytest.fixture(scope="session")
def single_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """One server, whatever the tests' store is: for what a proxy stands before, or an operator changes by hand. A
    module of such tests takes it as its `url`."""
    if request.config.getoption("--server") in ("sentinel", "cluster"):
        from tests.deployment import deployed

        with deployed("redis") as deployment:
            yield deployment.url
        return
    yield request.getfixturevalue("store_url")


@pytest.fixture
def fresh_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, with a short path; in the end what runs on it is stopped."""
    path = Path(tempfile.mkdtemp(prefix="bzh-", dir="/tmp"))
    settings = {"BLAZING_HOME": path, "BLAZING_SOCKET_DIR": path / "run", "IPYTHONDIR": path / "ipython"}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    yield path
    stop_everything(path)
    shutil.rmtree(path)


def stop_everything(home: Path) -> None:
    """Stop the workers and the embedded server of a state directory."""
    from blazing_nb.store import embedded

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLAZING_HOME", str(home))
        for folder in (home / "workers").glob("*"):
            Blazing(unquote(folder.name)).workers.stop()
        embedded.stop()


@pytest.fixture
def app_id(request: pytest.FixtureRequest) -> str:
    made, shards = f"t{os.getpid()}-{next(_numbers)}", request.config.getoption("--shards")
    if shards > 1:
        from blazing_nb.store.shards import open_store

        open_store(made, request.getfixturevalue("url"), shards=shards).close()
    return made


@pytest.fixture
def app(url: str, app_id: str) -> Iterator[Blazing]:
    """Connected, and writing as node n1."""
    with Blazing(app_id, url=url, node_id="n1") as made:
        yield made


@pytest.fixture
def worker(url: str, app: Blazing) -> Iterator[Worker]:
    """A worker in this process."""
    made = Worker(app.app_id, url=url).start()
    yield made
    made.close()


@pytest.fixture
def proxy(url: str, short_dir: Path, app_id: str) -> Iterator[Proxy]:
    """A network between an app and the server, on a socket."""
    made = Proxy(url, short_dir / f"{app_id}.sock")
    yield made
    made.close()


@pytest.fixture
def worker_process(url: str, app_id: str, blazing_home: Path) -> Iterator[WorkerFactory]:
    """`worker_process(lease=2.0)` starts `python -m blazing_nb worker` and returns when it is ready."""
    children: list[Child] = []

    def start(*arguments: str, app: str = app_id, lease: float = 10.0, ready: bool = True) -> Child:
        command = python_command("worker", "--app", app, "--url", url)
        child = Child([*command, "--lease", str(lease), *arguments])
        children.append(child)
        if ready:
            child.wait_for_line(lambda line: line.startswith("ready"))
        return child

    yield start
    for child in children:
        child.kill()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. Under BLAZING_CI=1 its absence fails."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is not None:
        return path
    if os.environ.get("BLAZING_CI") == "1":
        pytest.fail("no chromium on the PATH (.ci/run installs it)")
    pytest.skip("no chromium on the PATH")
