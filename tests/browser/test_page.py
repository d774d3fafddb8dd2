"""`blazing-nb dashboard`: a process that serves the dashboard to its user alone, and leaves nothing when it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from blazing_nb import Blazing
from blazing_nb.errors import UsageError
from blazing_nb.notebook import page as application
from tests.browser.test_views_live import UNNAMED
from tests.conftest import Child, python_command

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

DASHBOARD = "[data-testid=bz-dashboard]"
FIRST_S = 60.0
CONTROLS = [
    "number of workers",
    "workers: scale the workers on this machine",
    "step that the controls are for",
    "pause: let nobody claim the step",
    "resume: let the step be claimed again",
    "retry failed: enqueue what failed anew",
    "cancel: cancel what is not finished",
    "fault to cause",
    "break it: cause the fault while the lab's own operations run",
]
# Of each chart, whether anything is on it; of each panel of markup that is shown, whether it says anything.
DRAWN = f"""() => [...document.querySelectorAll('{DASHBOARD} .bz-panel:not([hidden])')].map(box => {{
    const canvas = box.querySelector('canvas');
    if (!canvas) return box.innerText.length > 0;
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(byte => byte);
}})"""


@pytest.fixture
def app(fresh_home: Path) -> Iterator[Blazing]:
    with Blazing("page") as made:
        yield made.connect()


def serve() -> tuple[Child, str]:
    child = Child(python_command("dashboard", "--app", "page", "--no-browser"))
    return child, child.wait_for_line(lambda line: line.startswith("http://"), FIRST_S).strip()


def test_the_dashboard_in_the_browser(app: Blazing, page: Any, foreign: list[str], artefacts: Path) -> None:
    def nap(x: int) -> int:
        time.sleep(0.02)
        return x

    app.workers.start(2, lease=1.0)
    step = app.step(nap, name="nap")
    step.map(range(100)).wait(60)
    child, url = serve()
    with closing(child):
        assert_private(child, url)
        began = time.monotonic()
        page.set_viewport_size({"width": 1280, "height": 2600})
        page.goto(url)
        page.wait_for_selector(f"{DASHBOARD}[data-painted]", timeout=60_000)
        page.wait_for_function(f"() => ({DRAWN})().every(Boolean)", timeout=20_000)
        painted_s = time.monotonic() - began
        assert len(page.evaluate(DRAWN)) >= 12
        top = "document.elementFromPoint(300, 300).closest('.bz-live') !== null"
        assert page.evaluate(top), "something lies over it, or it has no height"

        batch = step.map(range(1500))
        depth = f"Number(document.querySelector('{DASHBOARD}').dataset.depth)"
        page.wait_for_function(f"{depth} > 500", timeout=20_000)
        seq = int(page.get_attribute(DASHBOARD, "data-seq"))
        page.wait_for_function(f"{depth} > 0 && {depth} < 1000", timeout=60_000)
        page.screenshot(path=artefacts / "page.png")
        assert batch.wait(60)
        page.wait_for_function(f"{depth} === 0", timeout=20_000)
        moved = int(page.get_attribute(DASHBOARD, "data-seq")) - seq
        assert moved > 2
        break_by_keyboard(page)
        page.locator(DASHBOARD).screenshot(path=artefacts / "page-lab.png")
        (artefacts / "page.json").write_text(json.dumps({"painted_s": round(painted_s, 2), "moved": moved}))
        assert foreign == []
        assert_ends(child, signal.SIGTERM, kernels=1)


def break_by_keyboard(page: Any) -> None:
    """From the first control to the last with Tab, then a fault, which asks."""
    assert page.eval_on_selector(DASHBOARD, UNNAMED) == 0
    page.get_by_label("number of workers").focus()
    reached = []
    for _ in CONTROLS:
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        page.keyboard.press("Tab")
    assert reached == CONTROLS
    page.get_by_label("fault to cause").select_option("kill")
    page.get_by_label(CONTROLS[-1]).press("Enter")
    page.get_by_role("alertdialog", name="Kill two of this app's workers here").wait_for(timeout=20_000)
    page.keyboard.press("Shift+Tab")  # the focus is on "no"
    page.keyboard.press("Enter")
    lab = page.locator("[data-testid=bz-lab][data-state=over]")
    lab.wait_for(timeout=90_000)
    assert lab.get_by_text("✓ holds").count() == 2
    page.get_by_text("lost 0, committed twice 0").first.wait_for(timeout=20_000)


def assert_private(child: Child, url: str) -> None:
    """It listens on loopback only, opens to who has the token, and says it to nobody else."""
    address = urlsplit(url)
    assert address.hostname == "127.0.0.1"
    token = address.query.removeprefix("token=")
    assert len(token) > 20
    for path, status in (("/", (302, 403)), ("/?token=wrong", (302, 403)), ("/api/kernels", (302, 403, 404))):
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status in status, path
        connection.close()
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    assert not any(token in part for process in family for part in process.cmdline())
    listening = [c.laddr for process in family for c in process.net_connections("tcp") if c.status == "LISTEN"]
    assert [(found.ip, found.port) for found in listening] == [("127.0.0.1", address.port)]


def assert_ends(child: Child, number: signal.Signals, *, kernels: int) -> None:
    """With exit code 0 where it can say one, and all that it started."""
    family = psutil.Process(child.pid).children(recursive=True)
    assert sum("ipykernel_launcher" in process.cmdline() for process in family) == kernels
    child.send(number)
    assert child.wait(40) == (-number if number is signal.SIGKILL else 0)
    assert psutil.wait_procs(family, 20)[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_nothing_is_left(app: Blazing, number: signal.Signals) -> None:
    child, url = serve()
    with closing(child):
        address = urlsplit(url)
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
        connection.request("GET", f"/?{address.query}")
        assert connection.getresponse().status == 200
        connection.close()
        assert_ends(child, number, kernels=1)


def test_a_port_that_is_taken_is_said(app: Blazing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen on"):
        application.serve(app, port=taken.getsockname()[1])
