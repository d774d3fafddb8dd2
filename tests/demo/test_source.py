"""What the demo measures in one source file."""

from __future__ import annotations

from pathlib import Path

import pytest

from blazing_nb.demo import source


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(source, "library", lambda: tmp_path)
    return tmp_path


def test_a_file_is_measured(library: Path) -> None:
    (library / "a.py").write_text(
        "import os.path\nfrom json import loads\nfrom . import b\nclass C:\n    def m(self):\n        pass\n"
    )
    found = source.measure("a.py")
    assert {**found, "bytes": 0} == {
        "file": "a.py",
        "bytes": 0,
        "lines": 6,
        "functions": 1,
        "classes": 1,
        "imports": ["json", "os"],
        "longest": ["m", 2],
    }


def test_a_broken_file_is_a_finding_not_a_failure(library: Path) -> None:
    (library / "bad.py").write_text("def (:")
    (library / "latin.py").write_bytes(b"# \xff\n")
    assert "SyntaxError" in source.measure("bad.py")["unparsable"]
    assert "unparsable" in source.measure("latin.py")


def test_the_aggregate_adds_up(library: Path) -> None:
    for name in ("a", "b"):
        (library / f"{name}.py").write_text("import os\ndef f():\n    pass\n")
    (library / "c.py").write_text("(")
    total = source.aggregate([source.measure(name) for name in source.source_files()])
    assert (total["files"], total["unparsable"], total["functions"], total["lines"]) == (3, 1, 2, 6)
    assert total["imports"] == [["os", 2]]


def test_the_library_has_enough_files() -> None:
    assert len(source.source_files()) > 1000
    assert len(source.source_files(7)) == 7
