"""Every notebook runs in a fresh kernel on a fresh server, and is committed as a stranger wants to find it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from tests.notebook.execute import execute

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_a_fresh_kernel_and_a_fresh_server(path: Path, fresh_home: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    execute(notebook)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    check_picture(notebook)


def check_picture(notebook: nbformat.NotebookNode) -> None:
    """One picture worth showing, that is there without a kernel and without scripts."""
    outputs = [str(o.get("data", "")) for c in notebook.cells for o in c.get("outputs", [])]
    pictures = [output for output in outputs if "<svg" in output]
    assert pictures, "no view left a picture"
    assert not any("<script" in picture for picture in pictures)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_executed_small_and_without_widget_state(path: Path) -> None:
    assert path.stat().st_size < 500_000
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count
            assert not any(output.output_type == "error" for output in cell.outputs)
    text = path.read_text()
    for private in (str(Path.home()), "unix://", "application/vnd.jupyter.widget-view"):
        assert private not in text
    check_picture(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_who_it_is_for_and_ends_with_what_it_taught(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert re.search(r"^\*For .*minutes\.\*$", cells[0].source, re.MULTILINE)
    last = next(cell for cell in reversed(cells) if cell.cell_type == "code")
    assert last.source.count("assert ") >= 3


SOURCES = [path for path in NOTEBOOKS if path.with_suffix(".py").exists()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_made_of_the_source_beside_it(path: Path) -> None:
    """Reviewed as text: `python -m tests.notebook.execute NAME` makes the one of the other."""
    made, source = nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in made.cells] == [(c.cell_type, c.source) for c in source.cells]


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["jupyter-execute", "papermill"])
def test_a_notebook_runs_unchanged_under_other_tools(tool: str, fresh_home: Path, tmp_path: Path) -> None:
    """What runs a notebook without a person: both fail where a cell does."""
    source, made = NOTEBOOKS[0], tmp_path / "made.ipynb"
    shutil.copy(source, tmp_path / "source.ipynb")
    command = [str(Path(sys.executable).parent / tool), "source.ipynb"]
    command += [str(made)] if tool == "papermill" else ["--output", str(made)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(made, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not any(o.output_type == "error" for c in notebook.cells for o in c.get("outputs", []))
