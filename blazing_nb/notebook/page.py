"""The dashboard as an application in the browser: Voilà on a notebook of the package. Needs the extra `dashboard`."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from blazing_nb.client.app import Blazing
from blazing_nb.errors import UsageError

NOTEBOOK = Path(__file__).parent / "static" / "dashboard.ipynb"


def serve(app: Blazing, *, ip: str = "127.0.0.1", port: int = 0, token: bool = True, browser: bool = True) -> int:
    """Serve until interrupted; the exit code. Whoever has the token, or reaches the port where there is none, can do
    what the dashboard's buttons do."""
    if find_spec("voila") is None:
        raise UsageError("The dashboard in the browser needs Voilà: pip install 'blazing_nb[dashboard]'.")
    app.connect()
    port = port or _free_port(ip)
    secret = secrets.token_urlsafe(24) if token else ""
    command = [
        sys.executable,
        "-m",
        "voila",
        str(NOTEBOOK),
        f"--Voila.ip={ip}",
        f"--port={port}",
        "--template=blazing",
    ]
    command += ["--VoilaConfiguration.show_tracebacks=False", *([] if browser else ["--no-browser"])]
    # Neither the token nor the store's url, which may hold a password, is in the list of processes.
    environment = {**os.environ, "BLAZING_DASHBOARD_APP": app.app_id, "BLAZING_REDIS_URL": app.url}
    # Its own template fetches a font from elsewhere; ours, found by this path, does not.
    paths = [str(NOTEBOOK.parent), os.environ.get("JUPYTER_PATH", "")]
    environment |= {"JUPYTER_PATH": os.pathsep.join(filter(None, paths))}
    if secret:
        environment |= {"JUPYTER_TOKEN": secret}
        command += ["--Voila.auto_token=True"]
    print(f"http://{ip}:{port}/{f'?token={secret}' if secret else ''}", flush=True)
    server = subprocess.Popen(command, env=environment)
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        return server.wait(20)


def _free_port(ip: str) -> int:
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])
