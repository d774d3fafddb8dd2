"""The live view in a real JupyterLab in a real Chromium: it paints, moves while work drains, freezes, asks nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

WIDGET = "[data-testid=bz-depth]"
FROZEN = "[data-testid=bz-depth-frozen]"
CELLS = [
    "%load_ext blazing_nb\n%blazing up --app depths --workers 2",
    "import time\n@app.step\ndef nap(x):\n    time.sleep(0.02)\n    return x",
    "view = %blazing segments\nview.show()",
    (
        "batches = [nap.map(range(1600), node_id=f'node-{c}') for c in 'abc']\n"
        "from blazing_nb import gather\n"
        "print('sum', sum(map(sum, gather(*batches).results(120))))"
    ),
    "view.close()\nprint('closed', view)",
]


def write(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, path)


def open_notebook(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)


PROMPT = (
    "([index, pattern]) => new RegExp(pattern).test("
    "document.querySelectorAll('.jp-Notebook .jp-CodeCell')[index]?.querySelector('.jp-InputPrompt')?.textContent)"
)


def run_cell(page: Any, index: int) -> None:
    """Run one cell by the keyboard, as a person does.

    JupyterLab drops what is run before its session is connected (it says idle already): press again until a prompt
    shows that it was taken.
    """
    from playwright.sync_api import TimeoutError as NotTaken

    for _ in range(10):
        page.locator(".jp-Notebook .jp-CodeCell").nth(index).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        try:
            page.wait_for_function(PROMPT, arg=[index, r"\[(\*|\d+)\]"], timeout=3_000)
        except NotTaken:
            continue
        return
    pytest.fail(f"cell {index} was never taken")


def wait_done(page: Any, index: int, timeout: int = 60_000) -> None:
    page.wait_for_function(PROMPT, arg=[index, r"\[\d+\]"], timeout=timeout)


def test_segment_depths_move_while_work_drains_and_stay_when_closed(
    lab: Any, page: Any, foreign: list[str], artefacts: Path
) -> None:
    path = lab.root / "depths.ipynb"
    write(path, CELLS)
    before = path.stat().st_size
    open_notebook(page, f"{lab.url}/lab/tree/depths.ipynb?reset")
    for index in range(3):
        run_cell(page, index)
        wait_done(page, index)
    page.wait_for_selector(f"{WIDGET}[data-seq]", timeout=10_000)
    run_cell(page, 3)

    page.wait_for_function(f"Number(document.querySelector('{WIDGET}').dataset.depth) > 3000", timeout=20_000)
    page.locator(WIDGET).scroll_into_view_if_needed()
    page.wait_for_function(f"Number(document.querySelector('{WIDGET}').dataset.depth) < 2600", timeout=60_000)
    page.screenshot(path=artefacts / "depths-live.png")
    page.locator(WIDGET).screenshot(path=artefacts / "depths.png")
    seen = page.eval_on_selector(WIDGET, "e => ({...e.dataset, label: e.getAttribute('aria-label')})")
    assert int(seen["frames"]) >= 0.95 * (int(seen["seq"]) - 2) > 5, seen
    assert "waiting" in seen["label"]
    rows = page.locator(f"{WIDGET} .bz-row .bz-name").all_text_contents()
    assert {f"nap · node-{c}" for c in "abc"} <= set(rows)

    wait_done(page, 3, 120_000)
    page.wait_for_function(f"document.querySelector('{WIDGET}').dataset.depth === '0'", timeout=10_000)
    assert "sum 3837600" in page.locator(".jp-Notebook .jp-CodeCell").nth(3).text_content()

    run_cell(page, 4)
    page.wait_for_selector(FROZEN, timeout=20_000)
    wait_done(page, 4)
    page.locator(FROZEN).screenshot(path=artefacts / "depths-frozen.png")
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')", timeout=20_000)
    assert_saved(path, before)
    page.goto("about:blank")
    assert foreign == []


def assert_saved(path: Path, before: int) -> None:
    """What is on disk shows the view without a kernel, and did not grow."""
    notebook = nbformat.read(path, as_version=4)
    [html] = [o.data["text/html"] for o in notebook.cells[2].outputs if "text/html" in o.get("data", {})]
    assert "<svg" in html
    assert "<script" not in html
    assert path.stat().st_size - before < 100_000
