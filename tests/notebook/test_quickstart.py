"""The quickstart runs in a fresh kernel on a fresh server, and is committed as a stranger wants to find it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_a_fresh_kernel_and_a_fresh_server(path: Path, fresh_home: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=110, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env={**os.environ})
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    frozen = [o for c in notebook.cells for o in c.get("outputs", []) if "bz-frozen" in str(o.get("data", ""))]
    assert frozen, "the closed view left no HTML"
    assert not any("<script" in str(output) for output in frozen)


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
    assert str(Path.home()) not in text
    assert "application/vnd.jupyter.widget-view" not in text


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
