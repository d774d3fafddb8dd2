"""A durable cell in a real JupyterLab: what a thread sends later lands in the cell that it belongs to."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.test_depth_live import open_notebook, run_cell, wait_done, write

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


def test_output_lands_in_its_own_cell_and_is_found_again_after_a_restart(
    lab: Any, page: Any, foreign: list[str], artefacts: Path
) -> None:
    go = lab.root / "go"
    cells = [
        f"%load_ext blazing_nb\n%blazing up --app durable --workers 1\npath = {str(go)!r}",
        "%%blazing run --name live\nimport pathlib, sys, time\nprint('first')\n"
        "while not pathlib.Path(path).exists(): time.sleep(0.02)\n"
        "print('careful', file=sys.stderr)\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"
        "answer = 42\n'the last'",
        "print('another')\nopen(path, 'w').close()",
        "print('answer', answer)",
        "%load_ext blazing_nb\n%blazing up --app durable\n%blazing attach live",
    ]
    write(lab.root / "durable.ipynb", cells)
    open_notebook(page, f"{lab.url}/lab/tree/durable.ipynb?reset")
    run_cell(page, 0)
    wait_done(page, 0)
    run_cell(page, 1)
    output = page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator(".jp-OutputArea")
    output.get_by_text("first", exact=True).wait_for(timeout=30_000)
    run_cell(page, 2)
    wait_done(page, 2)
    output.locator("[data-testid=bz-cell][data-state*=SUCCEEDED]").wait_for(timeout=60_000)
    for text in ("first", "careful", "the last"):
        assert text in output.inner_text()
    assert output.locator("img").count() == 1
    other = page.locator(".jp-Notebook .jp-CodeCell").nth(2).locator(".jp-OutputArea")
    assert other.inner_text().strip() == "another"
    run_cell(page, 3)
    wait_done(page, 3)
    assert "answer 42" in page.locator(".jp-Notebook .jp-CodeCell").nth(3).inner_text()
    page.screenshot(path=artefacts / "durable-cell.png")
    page.keyboard.press("Control+s")
    page.locator(".jp-mod-dirty").wait_for(state="detached", timeout=20_000)
    kept = nbformat.read(lab.root / "durable.ipynb", as_version=4).cells[1].outputs
    assert [o.output_type for o in kept][:2] == ["display_data", "stream"]
    assert "SUCCEEDED" in str(kept[0])
    restart(lab.url)
    page.goto("about:blank")
    open_notebook(page, f"{lab.url}/lab/tree/durable.ipynb?reset")
    run_cell(page, 4)
    again = page.locator(".jp-Notebook .jp-CodeCell").nth(4).locator(".jp-OutputArea")
    again.locator("[data-testid=bz-cell][data-state*='here now: answer']").wait_for(timeout=60_000)
    assert again.locator("img").count() == 1
    assert "the last" in again.inner_text()
    assert foreign == []


def restart(url: str) -> None:
    """All kernels of the server."""
    for kernel in json.load(urllib.request.urlopen(f"{url}/api/kernels")):  # noqa: S310 - loopback
        request = urllib.request.Request(f"{url}/api/kernels/{kernel['id']}/restart", method="POST")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310 - loopback
