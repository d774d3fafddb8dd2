"""Binder's image, built step by step as repo2docker does: the environment of the files, `postBuild`, `start`."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
SERVE = ("jupyter", "server", "--allow-root", "--no-browser", "--ip=127.0.0.1", "--IdentityProvider.token=")


def test_everything_that_binder_installs_is_pinned() -> None:
    lines = (BINDER / "constraints.txt").read_text().splitlines()
    assert len(lines) > 50
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line) for line in lines)
    assert "-c constraints.txt" in (BINDER / "requirements.txt").read_text().splitlines()
    assert re.fullmatch(r"python-3\.1[1-3]\n", (BINDER / "runtime.txt").read_text())


def test_what_the_launch_addresses_open_is_there_and_what_the_tests_start() -> None:
    page = (ROOT / "docs" / "howto" / "binder.md").read_text()
    opened = {path.partition("/")[2] for path in re.findall(r"HEAD\?urlpath=(?:lab|voila)/([^`)]+)", page)}
    assert opened == {"notebooks/00_quickstart.ipynb", "blazing_nb/notebook/static/dashboard.ipynb"}
    assert all((ROOT / path).is_file() for path in opened)


class Image:
    """A copy of the repository with an environment of its own. Nothing is compiled and nothing downloaded twice."""

    def __init__(self, folder: Path) -> None:
        self.repo, self.venv = folder / "repo", folder / "venv"
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        files = subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()
        for name in filter(lambda name: (ROOT / name).is_file(), files):
            (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.repo / name)
        path = os.pathsep.join([str(self.venv / "bin"), os.environ["PATH"]])
        dropped = ("BLAZING_", "NODE_ID", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        home = {"BLAZING_HOME": str(folder / "h"), "BLAZING_SOCKET_DIR": str(folder / "s"), "HOME": str(folder)}
        self.environment = {**kept, **home, "PATH": path, "VIRTUAL_ENV": str(self.venv)}
        self.environment["IPYTHONDIR"] = self.environment["JUPYTER_RUNTIME_DIR"] = str(folder / "j")

    def build(self) -> None:
        uv = shutil.which("uv")
        cache = {name: value for name, value in os.environ.items() if name in ("HOME", "XDG_CACHE_HOME")}
        make = [uv, "venv", "-q", "-p", sys.executable] if uv else [sys.executable, "-m", "venv"]
        self.run(*make, str(self.venv), **cache)
        install = [uv, "pip", "install", "-q"] if uv else ["pip", "install", "-q", "--no-compile"]
        self.run(*install, "-r", "binder/requirements.txt", **cache)
        self.run("binder/postBuild")

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=self.repo, env={**self.environment, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str) -> str:
        """As the container does: the command behind `start`."""
        return self.run("binder/start", *command)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """A Jupyter server, at the url."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(BINDER / "start"), *SERVE, f"--port={port}", "--ServerApp.port_retries=0"]
        with (self.repo / "server.log").open("w") as log:
            server = subprocess.Popen(command, cwd=self.repo, env=self.environment, stderr=log)
            try:
                yield f"http://127.0.0.1:{port}/"
            finally:
                server.terminate()
                server.wait(30)


def read(url: str, patience: float = 60) -> str:
    """The page, once somebody serves it."""
    end = time.monotonic() + patience
    while True:
        try:
            with urlopen(url, timeout=patience) as page:  # noqa: S310 - loopback
                return str(page.read().decode())
        except URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="module")
def image(short_dir: Path) -> Image:
    made = Image(short_dir / "binder")
    made.build()
    return made


@pytest.mark.slow
def test_the_image_opens_the_quickstart_with_two_workers_and_a_small_server(image: Image) -> None:
    notebook = image.repo / "notebooks" / "00_quickstart.ipynb"
    image.start("jupyter", "execute", str(notebook), f"--output={image.repo / 'done.ipynb'}")
    cells = nbformat.read(image.repo / "done.ipynb", as_version=4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    assert any("--workers 2" in cell.source for cell in cells)
    ask = "import redis; from blazing_nb import Blazing; a = Blazing('quickstart').connect(); "
    ask += "print(redis.from_url(a.url).config_get('maxmemory')['maxmemory'])"
    assert image.start("python", "-c", ask).split()[0] == str(128 << 20)
    image.start("blazing-nb", "down", "--app", "quickstart")


@pytest.mark.slow
def test_the_dashboard_is_a_page_beside_jupyterlab(image: Image) -> None:
    with image.serving() as url:
        page = read(f"{url}voila/render/blazing_nb/notebook/static/dashboard.ipynb")
    image.start("blazing-nb", "down", "--app", "quickstart")
    assert not re.findall(r'(?:src|href)="https?://(?!127)', page)
    assert "blazing_nb.notebook.widget.Canvas" in page
