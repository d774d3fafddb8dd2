"""The fault lab as it is watched: the invariants beside the fault, live, in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from blazing_nb.client.fault import Experiment
from blazing_nb.core.markup import cell, table, tagged
from blazing_nb.core.palette import framed
from blazing_nb.core.status import Status

ROWS = (
    ("lost", "lost"),
    ("twice", "committed twice"),
    ("fenced", "fenced: late outcomes that were refused"),
    ("again", "executed again"),
)


class Lab:
    """Runs an experiment and shows it. Afterwards it is what it found."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._done = False

    def __repr__(self) -> str:
        return f"<Lab {self.experiment.fault}: {str(self.experiment.reading).strip()}>"

    def __str__(self) -> str:
        events = "\n".join(f"{seconds:6.1f} s  {what}" for seconds, what in self.experiment.events)
        return f"{events}\n{self.experiment.reading}"

    @property
    def holds(self) -> bool:
        """Whether nothing was lost and nothing committed twice."""
        return self._done and self.experiment.reading.holds

    def watch(self) -> Lab:
        """Do it, and show it until it is over. Ctrl-C ends the watching; the operations go on."""
        handle = _display(self._repr_html_()) if _in_notebook() else None
        for _ in self.turns():
            if handle is not None:
                handle.update({"text/html": self._repr_html_(), "text/plain": str(self)}, raw=True)
            else:
                sys.stderr.write(f"\r{self.experiment.reading}")
        if handle is None:
            sys.stderr.write("\n")
        return self

    def turns(self) -> Iterator[None]:
        """Do it; whenever there is something new to show, it is the next turn."""
        for _ in self.experiment.run():
            yield
        self._done = True
        yield

    def _repr_html_(self) -> str:
        return framed(self.body(), "bz-fault-lab")

    def body(self) -> str:
        """Markup, for inside of an element of class `bz`."""
        reading, fault = self.experiment.reading, self.experiment.fault
        good = {"lost": reading.lost == 0, "twice": reading.twice == 0}
        rows = [(label, f"{getattr(reading, name):,}", _verdict(good.get(name))) for name, label in ROWS]
        events = "".join(f"<div>{seconds:.1f} s: {cell(what)}</div>" for seconds, what in self.experiment.events)
        state = "over" if self._done else "under way"
        counts = f"{reading.finished:,} of {reading.enqueued:,} final, {reading.live:,} live"
        return (
            f'<div data-testid="bz-lab" data-state="{state}"><b>Fault lab: {cell(fault)}</b>, {state}, '
            f'{reading.seconds:.1f} s; {counts}{table(("", "", ""), rows)}<div class="bz-muted">{events}</div></div>'
        )


def _verdict(holds: bool | None) -> object:
    """Of what is promised; of the rest nothing."""
    if holds is None:
        return ""
    return tagged("holds", Status.SUCCEEDED, "✓") if holds else tagged("broken", Status.FAILED, "✗")


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def _display(html: str) -> Any:
    from IPython.display import display

    return display({"text/html": html, "text/plain": ""}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
