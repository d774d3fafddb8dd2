"""The dashboard as an application in the browser: Voilà on a notebook of the package. Needs the extra `dashboard`."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from blazing_nb.client.app import Blazing
from blazing_nb.errors import UsageError

NOTEBOOK = Path(__file__).parent / "static" / "dashboard.ipynb"
ENDS = (signal.SIGINT, signal.SIGTERM)
START_S = 60.0
END_S = 20.0


def serve(
    app: Blazing,
    *,
    ip: str = "127.0.0.1",
    port: int = 0,
    token: bool = True,
    browser: bool = True,
    theme: Literal["light", "dark"] = "light",
) -> int:
    """Serve until SIGINT or SIGTERM; the exit code. Voilà and its kernels have ended then.

    Whoever has the token, or reaches the port where there is none, can do what the dashboard's buttons do.

    Raises:
        UsageError: no Voilà, or it did not start; the port is taken.
    """
    if find_spec("voila") is None:
        raise UsageError("The dashboard in the browser needs Voilà: pip install 'blazing_nb[dashboard]'.")
    app.connect()
    port = _free(ip, port)
    secret = secrets.token_urlsafe(24) if token else ""
    with _interrupted_by_sigterm():
        # A session of its own: Ctrl-C reaches this process alone, which ends Voilà in order.
        server = subprocess.Popen(
            _command(ip, port, token, browser, theme),
            env=_environment(app, secret),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(server, ip, port)
            print(f"http://{ip}:{port}/{f'?token={secret}' if secret else ''}", flush=True)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


def _command(ip: str, port: int, token: bool, browser: bool, theme: str) -> list[str]:
    return [
        *(sys.executable, "-m", __name__, str(NOTEBOOK)),
        *(f"--Voila.ip={ip}", f"--port={port}", "--Voila.port_retries=0", "--Voila.log_level=WARN"),
        *("--template=blazing", "--VoilaConfiguration.show_tracebacks=False", "--KernelManager.transport=ipc"),
        f"--theme={theme}",
        *(["--Voila.auto_token=True"] if token else []),
        *([] if browser else ["--no-browser"]),
    ]


def _environment(app: Blazing, secret: str) -> dict[str, str]:
    """Neither the token nor the store's url, which may hold a password, is in the list of processes."""
    made = {**os.environ, "BLAZING_DASHBOARD_APP": app.app_id, "BLAZING_REDIS_URL": app.url}
    # Voilà's own template fetches a font from elsewhere; ours, found by this path, does not.
    made["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(NOTEBOOK.parent), os.environ.get("JUPYTER_PATH", "")]))
    return {**made, "JUPYTER_TOKEN": secret} if secret else made


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM as SIGINT: a KeyboardInterrupt."""
    earlier = {number: signal.signal(number, signal.default_int_handler) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _wait_until_it_answers(server: subprocess.Popen[bytes], ip: str, port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((ip, port), timeout=1).close()
            return
        time.sleep(0.05)
    raise UsageError(f"Voilà did not begin to listen on {ip}:{port}; what it said is above.")


def _end(server: subprocess.Popen[bytes]) -> None:
    """In order, so that it ends its kernels; a second signal does not interrupt this."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(END_S)
        except subprocess.TimeoutExpired:
            server.kill()  # its kernels see that it is gone, and end by themselves
            server.wait()


def _free(ip: str, port: int) -> int:
    """The port, or any that is free for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            raise UsageError(f"The dashboard cannot listen on {ip}:{port}: {error.strerror}; see --port.") from error
        return int(probe.getsockname()[1])


def _voila() -> None:
    """As the process that is started above: Voilà, until whoever started it closes its input, however that ended."""
    from voila.app import main

    def follow() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="bz-owner", daemon=True).start()
    main()


if __name__ == "__main__":
    _voila()
