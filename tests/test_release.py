"""What is built, and what is installed beside it: the wheel's contents, and the audit that does not pass in silence."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import blazing_nb

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "blazing_nb"
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, and the wheel that was built of nothing but it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked sdist does not know what is in the repository")
def test_the_sdist_has_every_file_of_the_repository_but_the_forms_for_issues(built: Path) -> None:
    with tarfile.open(built / f"blazing_nb-{blazing_nb.__version__}.tar.gz") as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert names == {name for name in files if not name.startswith(".github/")} | {"PKG-INFO"}


@pytest.mark.slow
def test_the_wheel_of_the_sdist_has_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"blazing_nb-{blazing_nb.__version__}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        meta = next(name for name in names if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(wheel.read(meta).decode())
        scripts = wheel.read(meta.replace("METADATA", "entry_points.txt")).decode()
        licence = wheel.read(meta.replace("METADATA", "licenses/LICENSE")).decode()
    there = {
        str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == there
    kinds = {Path(name).suffix for name in there}
    assert kinds >= {".py", ".lua", ".js", ".ipynb"} and "blazing_nb/py.typed" in there
    assert (about["Name"], about["Version"]) == ("blazing_nb", blazing_nb.__version__)
    assert scripts.split() == ["[console_scripts]", "blazing-nb", "=", "blazing_nb.cli:main"]
    assert (about["License-Expression"], about["License-File"]) == ("MIT", "LICENSE")
    assert licence == (ROOT / "LICENSE").read_text()
    assert about["Description-Content-Type"] == "text/markdown" and about.get_payload() == README.read_text()


def test_every_extra_and_every_python_that_the_documentation_names_is_in_the_metadata() -> None:
    about = importlib.metadata.metadata("blazing_nb")
    pages = {path: path.read_text() for path in (README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))}
    named = {extra for text in pages.values() for extra in re.findall(r"blazing_nb\[(\w+)\]", text)}
    assert named and named <= set(about.get_all("Provides-Extra") or ())
    kept = re.search(r"Python ([\d., ]+) and ([\d.]+);", pages[ROOT / "CONTRIBUTING.md"])
    assert kept
    supported = {f"Programming Language :: Python :: {each}" for each in [*kept[1].split(", "), kept[2]]}
    classifiers = about.get_all("Classifier") or ()
    assert supported == {each for each in classifiers if re.search(r":: 3\.\d+$", each)}
    assert min(supported).endswith(about["Requires-Python"].removeprefix(">="))


class Advisories(BaseHTTPRequestHandler):
    """The protocol of OSV, of an index that knows one weakness, or none."""

    known: dict[str, list[dict[str, object]]]

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"].lower()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": self.known.get(name, [])}).encode())

    def log_message(self, *args: object) -> None:
        """Not among the tests' output."""


def weakness(name: str, version: str) -> list[dict[str, object]]:
    affected = [{"package": {"ecosystem": "PyPI", "name": name}, "versions": [version]}]
    return [{"id": "PYSEC-2000-1", "summary": "weak", "details": "weak", "affected": affected}]


@pytest.fixture
def advisories() -> Iterator[tuple[type[Advisories], str]]:
    kind = type("Known", (Advisories,), {"known": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield kind, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def audit(url: str, tmp_path: Path, *arguments: str) -> tuple[int, str]:
    asked = tmp_path / "requirements.txt"
    asked.write_text("somelib==1.0\n")
    command = [sys.executable, str(ROOT / ".ci" / "audit.py"), *arguments, "--osv-url", url]
    command += ["-r", str(asked), "--disable-pip", "--no-deps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_an_audit_without_a_service_says_so_and_fails_where_it_is_required(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/"
    code, said = audit(nobody, tmp_path)
    assert code == 0 and "NOT AUDITED" in said
    assert audit(nobody, tmp_path, "--required")[0] == 1


def test_a_service_that_knows_no_advisories_is_no_audit(
    advisories: tuple[type[Advisories], str], tmp_path: Path
) -> None:
    _, url = advisories
    code, said = audit(url, tmp_path, "--required")
    assert code == 1 and "NOT AUDITED" in said and "knows no advisory" in said


def test_an_audit_finds_what_is_weak_and_passes_what_is_not(
    advisories: tuple[type[Advisories], str], tmp_path: Path
) -> None:
    kind, url = advisories
    kind.known = {"jinja2": weakness("jinja2", "2.4.1")}
    code, said = audit(url, tmp_path)
    assert code == 0 and "NOT AUDITED" not in said, said
    kind.known["somelib"] = weakness("somelib", "1.0")
    code, said = audit(url, tmp_path)
    assert code == 1 and "PYSEC-2000-1" in said, said


def test_what_is_installed_is_audited_and_what_is_installed_from_here_is_not_asked_about(
    advisories: tuple[type[Advisories], str],
) -> None:
    kind, url = advisories
    kind.known = {"jinja2": weakness("jinja2", "2.4.1"), "blazing-nb": weakness("blazing-nb", blazing_nb.__version__)}
    command = [sys.executable, str(ROOT / ".ci" / "audit.py"), "--required", "--osv-url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # The service knows by name alone: jinja2 is installed, and so are we, of whom it would have said the same.
    assert (done.returncode, "Found 1 known vulnerability in 1 package" in done.stderr) == (1, True), done.stderr
