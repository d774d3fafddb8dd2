"""The key file: made once, private, never shown."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from blazing_nb.errors import InvalidName, SecretUnsafe
from blazing_nb.store.secret import key_path, load_ring

SIGN = "from blazing_nb.store.secret import load_ring; print(load_ring('many').sign(b'x')[1].hex())"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLAZING_HOME", str(tmp_path))
    return tmp_path


def test_a_key_is_made_once_and_private(home: Path) -> None:
    assert load_ring("a").sign(b"x") == load_ring("a").sign(b"x")
    assert load_ring("a").sign(b"x")[1] != load_ring("b").sign(b"x")[1]
    assert stat.S_IMODE(key_path("a").stat().st_mode) == 0o600
    assert stat.S_IMODE(key_path("a").parent.stat().st_mode) == 0o700
    assert {path.name for path in (home / "keys").iterdir()} == {"a.json", "b.json"}


def test_processes_at_the_same_moment_end_with_one_key() -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SIGN], stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert len({process.communicate(timeout=30)[0] for process in processes}) == 1


def test_a_key_that_others_can_read_is_refused() -> None:
    load_ring("a")
    key_path("a").chmod(0o640)
    with pytest.raises(SecretUnsafe, match="chmod 600"):
        load_ring("a")


@pytest.mark.parametrize("text", ["", "SECRET", '{"keys": {}}', '{"current": "k", "keys": {"k": "SECRETS"}}', "[]"])
def test_what_is_no_key_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    load_ring("a")
    key_path("a").write_text(text)
    with pytest.raises(SecretUnsafe) as caught:
        load_ring("a")
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_named_key_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine"
    monkeypatch.setenv("BLAZING_KEY_FILE", str(path))
    with pytest.raises(SecretUnsafe, match="does not exist"):
        load_ring("a")
    path.write_text(json.dumps({"current": "k", "keys": {"k": "00" * 32}}))
    path.chmod(0o600)
    assert load_ring("a").current == "k"


@pytest.mark.parametrize("app", ["a/../../b", "..", "a/b"])
def test_an_apps_name_stays_inside_the_directory(home: Path, app: str) -> None:
    assert key_path(app).parent == home / "keys"
    load_ring(app)
    assert key_path(app).exists()


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(InvalidName):
        load_ring("a:b")
