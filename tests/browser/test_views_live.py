"""All views in one real JupyterLab: they paint, move, draw what is sent, ask nobody, freeze, and are still there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.test_depth_live import open_notebook, run_cell, wait_done, write

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

WINDOWS = 5
"""Stretches of six seconds; the machine may be busy with something else in one."""
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
    "batches = [crawl.map(range(6000), node_id=f'node-{c}') for c in 'abc']",
    "[view.close() for view in four]\ntimeline = Timeline(app)\ntimeline.show()",
    "timeline.close()\nboard = Dashboard(app)\nboard.show()",
    "board.close()\nfor batch in batches: batch.cancel()",
]
SEEN = "e => ({...e.dataset, label: e.getAttribute('aria-label')})"
UNNAMED = """e => [...e.querySelectorAll('button, input, select, canvas')]
    .filter(c => !(c.getAttribute('aria-label') || c.textContent.trim())).length"""


def view(name: str) -> str:
    return f"[data-testid=bz-{name}]"


def choose(page: Any, theme: str) -> None:
    """A theme of JupyterLab."""
    light = str(theme == "Light").lower()
    page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", f"JupyterLab {theme}")
    page.wait_for_function(f"document.body.dataset.jpThemeLight === '{light}'", timeout=20_000)
    page.wait_for_timeout(1200)  # canvases resolve their colours anew once a second


def picture(page: Any, names: Sequence[str], artefacts: Path) -> None:
    """In both themes."""
    for theme in ("Dark", "Light"):
        choose(page, theme)
        for name in names:
            page.locator(view(name)).screenshot(path=artefacts / f"{name}-{theme.lower()}.png")


def end_sessions(url: str) -> None:
    """As if the server had been started anew: no notebook has a kernel."""
    for session in json.load(urllib.request.urlopen(f"{url}/api/sessions")):  # noqa: S310 - loopback
        request = urllib.request.Request(f"{url}/api/sessions/{session['id']}", method="DELETE")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310 - loopback


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
    measured = four_views(page, artefacts)
    measured["timeline"] = the_timeline(page, artefacts)
    measured["dashboard"] = the_dashboard(page, artefacts)
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')", timeout=20_000)
    for name, size in saved(path, before).items():
        measured[name]["frozen_bytes"] = size
    (artefacts / "views.json").write_text(json.dumps(measured, indent=1))

    page.goto("about:blank")
    end_sessions(lab.url)
    open_notebook(page, f"{lab.url}/lab/tree/views.ipynb?reset")
    for name in NAMES:
        page.wait_for_selector(view(f"{name}-frozen"), timeout=20_000)
    assert page.locator(".jp-InputPrompt").first.text_content().strip() == "[1]:"  # nothing has run in this kernel
    picture(page, [f"{name}-frozen" for name in NAMES], artefacts)
    page.goto("about:blank")
    assert foreign == []


def four_views(page: Any, artefacts: Path) -> dict[str, dict[str, int]]:
    run_cell(page, 1)
    for name in NAMES[:4]:
        page.wait_for_selector(f"{view(name)}[data-painted]", timeout=20_000)
    wait_done(page, 1)
    run_cell(page, 2)
    wait_done(page, 2)
    best: dict[str, dict[str, int]] = {}
    for _ in range(WINDOWS):
        for name, found in window(page).items():
            best[name] = max(best.get(name, found), found, key=lambda row: row["drawn"] / row["sent"])
        if all(found["drawn"] >= 0.95 * found["sent"] for found in best.values()):
            break
    else:
        pytest.fail(f"less than 95 % of the states were drawn in each of {WINDOWS} stretches: {best}")
    for name in NAMES[:4]:
        assert page.eval_on_selector(view(name), UNNAMED) == 0
    picture(page, NAMES[:4], artefacts)
    return best


def window(page: Any) -> dict[str, dict[str, int]]:
    """What was sent and drawn in a stretch of sixty states."""
    begin = {name: page.eval_on_selector(view(name), SEEN) for name in NAMES[:4]}
    page.wait_for_function(
        f"seq => Number(document.querySelector('{view('workers')}').dataset.seq) > seq + 60",
        arg=int(begin["workers"]["seq"]),
        timeout=60_000,
    )
    measured = {}
    for name in NAMES[:4]:
        seen = page.eval_on_selector(view(name), SEEN)
        sent, drawn = (int(seen[key]) - int(begin[name][key]) for key in ("seq", "frames"))
        assert sent > 30, seen
        lags = {"lag50_ms": int(seen["lag50"]), "lag95_ms": int(seen["lag95"])}
        measured[name] = {"painted_ms": round(float(seen["painted"])), "sent": sent, "drawn": drawn, **lags}
    return measured


def painted(page: Any, name: str) -> dict[str, int]:
    """Milliseconds from `show()` to its first frame."""
    page.wait_for_selector(f"{view(name)}[data-painted]", timeout=20_000)
    assert page.eval_on_selector(view(name), UNNAMED) == 0
    return {"painted_ms": round(float(page.locator(view(name)).get_attribute("data-painted")))}


def the_timeline(page: Any, artefacts: Path) -> dict[str, int]:
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
    picture(page, ["timeline"], artefacts)
    page.get_by_label("go back to now").press("Enter")
    page.wait_for_function(f"document.querySelector('{view('timeline')}').dataset.moment === ''", timeout=10_000)
    return painted(page, "timeline")


def the_dashboard(page: Any, artefacts: Path) -> dict[str, int]:
    run_cell(page, 4)
    wait_done(page, 4)
    found = painted(page, "dashboard")
    seq = int(page.get_attribute(view("dashboard"), "data-seq"))
    page.wait_for_function(f"Number(document.querySelector('{view('dashboard')}').dataset.seq) > {seq} + 20")
    page.locator(view("dashboard")).screenshot(path=artefacts / "dashboard-live.png")
    page.get_by_label("step that the controls are for").select_option("crawl")
    cancel = page.get_by_label("cancel: cancel what is not finished")
    cells = page.locator(".jp-Notebook .jp-CodeCell").count()
    cancel.press("x")  # in command mode that would cut the cell
    cancel.press("Enter")
    page.get_by_role("alertdialog").wait_for(timeout=20_000)
    picture(page, ["dashboard"], artefacts)
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == cells
    assert "of crawl?" in page.get_by_role("alertdialog").text_content()
    page.keyboard.press("Enter")  # the focus is on "no"
    page.get_by_text("nothing was done").wait_for(timeout=10_000)
    run_cell(page, 5)
    page.wait_for_selector(view("dashboard-frozen"), timeout=20_000)
    wait_done(page, 5, 120_000)
    return found


def saved(path: Path, before: int) -> dict[str, int]:
    """The size of each frozen view on disk."""
    cells = nbformat.read(path, as_version=4).cells
    htmls = [o.data["text/html"] for cell in cells for o in cell.outputs if "text/html" in o.get("data", {})]
    frozen = [html for html in htmls if "-frozen" in html]
    assert len(frozen) == 6
    assert not any("<script" in html for html in frozen)
    sizes = {html.split('data-testid="bz-', 1)[1].split("-frozen")[0]: len(html) for html in frozen}
    assert all(size < 100_000 for size in sizes.values()), sizes
    assert path.stat().st_size - before < 100_000 * 6
    return sizes
