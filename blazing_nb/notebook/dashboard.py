"""The dashboard: all views in one, with controls that ask before they destroy."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from blazing_nb.client.app import Blazing
from blazing_nb.client.fault import FAULTS, Experiment
from blazing_nb.client.network import NETWORK
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import BlazingError, UsageError
from blazing_nb.notebook.crew import WorkersView
from blazing_nb.notebook.depth import SegmentDepths
from blazing_nb.notebook.lab import Lab
from blazing_nb.notebook.panel import Markup, Panel
from blazing_nb.notebook.throughput import Latency, Throughput
from blazing_nb.notebook.timeline import Timeline
from blazing_nb.notebook.transition import Transitions
from blazing_nb.notebook.view import View, depths
from blazing_nb.store import embedded, query

if TYPE_CHECKING:
    import pandas as pd

PARTS = (Throughput, Latency, SegmentDepths, Transitions, WorkersView, Timeline)
CANCEL_LIMIT = 100_000
WARNINGS = {
    "kill": "Kill two of this app's workers here, while {} operations of the lab run?",
    "pause": "Stop a worker of this app until its work was given to others, while {} operations of the lab run?",
    "flood": "Send twenty times {} operations at once, as four nodes?",
    "restart": "Kill the embedded server, which all your apps share, and start it again, while {} operations run?",
    "partition": "Cut a worker off from the store, each way, while {} operations of the lab run?",
    "slow": "Make a worker's network slow while {} operations of the lab run?",
    "drop": "Forget replies to a worker while {} operations of the lab run?",
    "storm": "Reset a worker's connections again and again while {} operations of the lab run?",
}


class Dashboard(View):
    """Throughput, latency, depths, transitions, workers and the timeline, opening with the last hour; with controls for
    workers, pause, resume, retry of what failed, cancel, and, on the embedded server, faults, with the invariants
    beside them. What takes work away or breaks something asks first.

    Buttons wait until the cell that runs has ended.

    .. image:: ../images/dashboard.png

    Examples:
        >>> dashboard = Dashboard(app)
        >>> dashboard.close()
    """

    title, name = "Dashboard", "dashboard"
    modules = ("series", "timeline", "controls")

    def __init__(self, app: Blazing, **options: Any) -> None:
        super().__init__(app, **options)
        self._app = app
        self._controls = Controls("controls", wide=True)
        self._lab = Markup("fault lab", wide=True)
        self._breaking = threading.Lock()
        self.views = [part(app) for part in PARTS]
        self.panels = [self._controls, self._lab, *chain.from_iterable(view.panels for view in self.views)]

    def start(self, snapshot: Snapshot) -> None:
        server = embedded.find()
        self._controls.faults = [*FAULTS, *NETWORK] if server is not None and server.url == self._app.url else []
        for view in self.views:
            view.start(snapshot)

    def take(self, snapshot: Snapshot) -> None:
        self._controls.set(snapshot)
        for view in self.views:
            view.take(snapshot)

    def summary(self, snapshot: Snapshot) -> str:
        return depths(snapshot)

    def to_frame(self) -> pd.DataFrame:
        """As `Throughput.to_frame()`; `dashboard.views` has the others.

        Examples:
            >>> len(Dashboard(app).views) > 3
            True
        """
        self.current()
        self.views[0]._snapshot = self._snapshot
        return self.views[0].to_frame()

    # -- controls ------------------------------------------------------------------------------------------------------

    def act(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """In a thread: to scale may take seconds, and the kernel goes on."""
        threading.Thread(target=self._act, args=(request,), name="bz-control", daemon=True).start()
        return {"said": f"{request.get('verb')}: under way"}

    def _act(self, request: dict[str, Any]) -> None:
        try:
            answer = self.control(str(request.get("verb")), request.get("value"), sure=request.get("sure") is True)
        except BlazingError as error:
            answer = {"said": str(error)}
        if self._widget is not None:
            self._widget.send({"type": "answer", **answer})

    def control(self, verb: str, value: Any = None, *, sure: bool = False) -> dict[str, Any]:
        """What the buttons do: workers (a number), pause, resume, retry, cancel (a step's name, or "" for all), faults
        (one of `blazing-nb faults`).

        Returns:
            `said`, what was done; or `ask`, what would be, where it takes work away and `sure` is not given.

        Examples:
            >>> dashboard = Dashboard(app)
            >>> "ask" in dashboard.control("pause", "double")  # it takes work away: not done until it is sure
            True
        """
        verbs = {
            "workers": self._workers,
            "pause": self._pause,
            "resume": self._pause,
            "retry": self._retry,
            "cancel": self._cancel,
            "faults": self._faults,
        }
        if verb not in verbs:
            raise UsageError(f"The controls are {', '.join(verbs)}, not {verb!r}.")
        answer = verbs[verb](verb, value, sure)
        return {"verb": verb, "value": value, **answer}

    def _workers(self, verb: str, value: Any, sure: bool) -> dict[str, Any]:
        try:
            n = int(value)
        except (TypeError, ValueError):
            raise UsageError(f"How many workers is a number, not {value!r}.") from None
        living = len(self._app.workers)
        if n < living and not sure:
            return {"ask": f"Stop {living - n} of {living} workers? They finish what they hold."}
        self._app.workers.scale(n)
        return {"said": f"{n} workers on this machine"}

    def _pause(self, verb: str, value: Any, sure: bool) -> dict[str, Any]:
        steps = self._steps(value)
        if verb == "pause" and not sure:
            return {"ask": f"Pause {', '.join(steps)}? Nobody claims it until it is resumed."}
        changed = sum(self._app.store.pause(step, verb == "pause") for step in steps)
        return {"said": f"{verb}d {changed} of {len(steps)} steps"}

    def _retry(self, verb: str, value: Any, sure: bool) -> dict[str, Any]:
        failed = self._app.failed(value or None)
        if not sure:
            return (
                {"ask": f"Enqueue {len(failed)} failed operations anew?"} if len(failed) else {"said": "nothing failed"}
            )
        return {"said": f"{len(failed.retry())} operations were enqueued anew"}

    def _cancel(self, verb: str, value: Any, sure: bool) -> dict[str, Any]:
        steps, store = self._steps(value), self._app.store
        pages = (query.live(store, step=step, pending=kind) for step in steps for kind in (False, True))
        found = list(islice(chain.from_iterable(chain.from_iterable(pages)), CANCEL_LIMIT))
        if not sure:
            return (
                {"ask": f"Cancel {len(found)} operations of {', '.join(steps)}?"}
                if found
                else {"said": "nothing to cancel"}
            )
        answers = store.cancel(found)
        return {"said": f"{answers.count('CANCELLED')} cancelled, {answers.count('ASKED')} asked to stop"}

    def _faults(self, verb: str, value: Any, sure: bool) -> dict[str, Any]:
        if not self._breaking.acquire(blocking=False):
            raise UsageError("A fault is under way; wait until the lab is over.")
        try:
            lab = Lab(Experiment(self._app, value))
            if not sure:
                return {"ask": WARNINGS[value].format(lab.experiment.operations)}
            for _ in lab.turns():
                with self._lock:
                    self._lab.set(lab.body(), str(lab))
            return {"said": str(lab.experiment.reading).strip()}
        finally:
            self._breaking.release()

    def _steps(self, value: Any) -> list[str]:
        known = sorted(self._app.store.steps())
        if not value:
            return known
        if value not in known:
            raise UsageError(f"App {self._app.app_id!r} has no step {value!r}; there are: {', '.join(known)}.")
        return [str(value)]


class Controls(Panel):
    """What can be pressed. Frozen and in a terminal there is nothing to press."""

    kind = "controls"

    faults: Sequence[str] = ()
    """What can be broken; nothing but on the embedded server."""

    def __init__(self, title: str, *, wide: bool = False) -> None:
        super().__init__(title, wide=wide)
        self._state: dict[str, Any] = {"steps": [], "workers": 0, "faults": []}

    def set(self, snapshot: Snapshot) -> None:
        steps = sorted(step.step for step in snapshot.steps)
        self._state = {"steps": steps, "workers": len(snapshot.workers), "faults": list(self.faults)}

    def everything(self) -> dict[str, Any]:
        return self._state

    def news(self) -> dict[str, Any]:
        return self._state

    def html(self) -> str:
        return ""

    def text(self) -> str:
        return ""


def open_dashboard() -> Dashboard:
    """What the application in the browser shows: of the app that its environment names."""
    return Dashboard(Blazing(os.environ.get("BLAZING_DASHBOARD_APP", "demo")).connect())
