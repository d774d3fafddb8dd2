"""All views in one real JupyterLab: they paint, move, draw what is sent, ask nobody, freeze, and are still there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.test_depth_live import open_notebook, run_cell, wait_done, write

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = ("throughput", "latency", "transitions", "workers", "timeline", "dashboard")
CELLS = [
    (
        "%load_ext blazing_nb\n%blazing up --app views --workers 2\n"
        "from blazing_nb import current\n"
        "import time\n"
        "@app.step(retries=1, backoff=0.05)\n"
        "def crawl(x):\n"
        "    current().progress(x % 50, 50, 'page')\n"
        "    time.sleep(0.03 if x % 40 else 1.5)\n"
        "    if x % 23 == 0: raise ValueError('page is empty')\n"
        "    return x\n"
        "from blazing_nb.notebook import *\n"
        "from blazing_nb.notebook.pump import pump\n"
        "pump._period_s = 0.1\n"
        "crawl.map(range(60), node_id='node-a').wait(60)"
    ),
    "four = [Throughput(app), Latency(app), Transitions(app), WorkersView(app)]\n[view.show() for view in four][0]",
    "batches = [crawl.map(range(2500), node_id=f'node-{c}') for c in 'abc']",
    "[view.close() for view in four]\ntimeline = Timeline(app)\ntimeline.show()",
    "timeline.close()\nboard = Dashboard(app)\nboard.show()",
    "board.close()\nfor batch in batches: batch.cancel()",
]
SEEN = "e => ({...e.dataset, label: e.getAttribute('aria-label')})"
UNNAMED = """e => [...e.querySelectorAll('button, input, select, canvas')]
    .filter(c => !(c.getAttribute('aria-label') || c.textContent.trim())).length"""


def view(name: str) -> str:
    return f"[data-testid=bz-{name}]"


def picture(page: Any, name: str, artefacts: Path) -> None:
    """In both themes."""
    target = page.locator(view(name))
    for theme, dark in (("light", False), ("dark", True)):
        page.evaluate("dark => document.body.dataset.jpThemeLight = String(!dark)", dark)
        page.evaluate(f"dark => document.querySelector('{view(name)}').style.background = dark ? '#111' : '#fff'", dark)
        page.evaluate(
            f"""dark => {{ const s = document.querySelector('{view(name)}').style;
            s.setProperty('--jp-ui-font-color1', dark ? '#e8ebef' : '#1b1f24');
            s.setProperty('--jp-ui-font-color2', dark ? '#9aa4b0' : '#5b6470'); }}""",
            dark,
        )
        page.wait_for_timeout(1200)  # colours are resolved anew once a second
        target.screenshot(path=artefacts / f"{name}-{theme}.png")
    page.evaluate("document.body.dataset.jpThemeLight = 'true'")


def test_four_views_at_ten_a_second_then_the_timeline_and_the_dashboard(
    lab: Any, page: Any, foreign: list[str], artefacts: Path
) -> None:
    path = lab.root / "views.ipynb"
    write(path, CELLS)
    before = path.stat().st_size
    page.set_viewport_size({"width": 1280, "height": 3000})
    open_notebook(page, f"{lab.url}/lab/tree/views.ipynb?reset")
    run_cell(page, 0)
    wait_done(page, 0)
    run_cell(page, 1)
    for name in NAMES[:4]:
        page.wait_for_selector(f"{view(name)}[data-seq]", timeout=20_000)
    wait_done(page, 1)
    run_cell(page, 2)
    wait_done(page, 2)
    begin = {name: page.eval_on_selector(view(name), SEEN) for name in NAMES[:4]}
    page.wait_for_function(
        f"seq => Number(document.querySelector('{view('workers')}').dataset.seq) > seq + 60",
        arg=int(begin["workers"]["seq"]),
        timeout=60_000,
    )
    lags = {}
    for name in NAMES[:4]:
        seen = page.eval_on_selector(view(name), SEEN)
        sent, drawn = (int(seen[key]) - int(begin[name][key]) for key in ("seq", "frames"))
        assert drawn >= 0.95 * sent > 30, (name, seen)
        lags[name] = {"sent": sent, "drawn": drawn, "lag50_ms": int(seen["lag50"]), "lag95_ms": int(seen["lag95"])}
        assert page.eval_on_selector(view(name), UNNAMED) == 0
        picture(page, name, artefacts)
    (artefacts / "views-lag.json").write_text(json.dumps(lags))

    run_cell(page, 3)
    wait_done(page, 3)
    for name in NAMES[:4]:
        page.wait_for_selector(view(f"{name}-frozen"), timeout=20_000)
    page.wait_for_function(f"Number(document.querySelector('{view('timeline')}').dataset.spans) > 50", timeout=20_000)
    slider = page.get_by_label("moment to look at")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("PageDown")
    page.wait_for_function(f"document.querySelector('{view('timeline')}').dataset.moment > 0", timeout=10_000)
    picture(page, "timeline", artefacts)
    page.get_by_label("go back to now").press("Enter")
    page.wait_for_function(f"document.querySelector('{view('timeline')}').dataset.moment === ''", timeout=10_000)
    assert page.eval_on_selector(view("timeline"), UNNAMED) == 0

    run_cell(page, 4)
    wait_done(page, 4)
    page.wait_for_selector(f"{view('dashboard')}[data-seq]", timeout=20_000)
    page.get_by_label("step that the controls are for").select_option("crawl")
    page.get_by_label("cancel: cancel what is not finished").press("Enter")
    page.get_by_role("alertdialog").wait_for(timeout=20_000)
    picture(page, "dashboard", artefacts)
    assert "of crawl?" in page.get_by_role("alertdialog").text_content()
    page.keyboard.press("Enter")  # the focus is on "no"
    page.get_by_text("nothing was done").wait_for(timeout=10_000)
    assert page.eval_on_selector(view("dashboard"), UNNAMED) == 0

    run_cell(page, 5)
    page.wait_for_selector(view("dashboard-frozen"), timeout=20_000)
    wait_done(page, 5, 120_000)
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')", timeout=20_000)
    saved = nbformat.read(path, as_version=4)
    htmls = [o.data["text/html"] for cell in saved.cells for o in cell.outputs if "text/html" in o.get("data", {})]
    frozen = [html for html in htmls if "-frozen" in html]
    assert len(frozen) == 6
    assert not any("<script" in html for html in frozen)
    sizes = {html.split('data-testid="bz-', 1)[1].split('"')[0]: len(html) for html in frozen}
    (artefacts / "views-size.json").write_text(json.dumps(sizes))
    assert all(size < 100_000 for size in sizes.values()), sizes
    assert path.stat().st_size - before < 100_000 * 6

    open_notebook(page, f"{lab.url}/lab/tree/views.ipynb?reset")
    for name in NAMES:
        page.wait_for_selector(view(f"{name}-frozen"), timeout=20_000)
    page.goto("about:blank")
    assert foreign == []
