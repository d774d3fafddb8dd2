"""The fault lab as it is watched: the invariants beside the fault, live, in the foreground."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from blazing_nb.client.fault import Experiment

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
        handle = _display(self._html()) if _in_notebook() else None
        for reading in self.experiment.run():
            if handle is not None:
                handle.update({"text/html": self._html(), "text/plain": str(self)}, raw=True)
            else:
                sys.stderr.write(f"\r{reading}")
        self._done = True
        if handle is not None:
            handle.update({"text/html": self._html(), "text/plain": str(self)}, raw=True)
        else:
            sys.stderr.write("\n")
        return self

    def _repr_html_(self) -> str:
        return self._html()

    def _html(self) -> str:
        reading, fault = self.experiment.reading, self.experiment.fault
        good = {"lost": reading.lost == 0, "twice": reading.twice == 0}
        rows = "".join(
            f"<tr><td style='text-align:left'>{label}</td><td><b>{getattr(reading, name):,}</b></td>"
            f"<td>{'' if name not in good else '✓ holds' if good[name] else '✗ broken'}</td></tr>"
            for name, label in ROWS
        )
        events = "".join(f"<li>{seconds:.1f} s: {escape(what)}</li>" for seconds, what in self.experiment.events)
        state = "over" if self._done else "under way"
        counts = f"{reading.finished:,} of {reading.enqueued:,} final, {reading.live:,} live"
        return (
            f'<div data-testid="bz-lab" data-state="{state}" style="font:13px/1.6 system-ui,sans-serif">'
            f"<b>Fault lab: {escape(fault)}</b>, {state}, {reading.seconds:.1f} s; {counts}"
            f"<table>{rows}</table><ul>{events}</ul></div>"
        )


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def _display(html: str) -> Any:
    from IPython.display import display

    return display({"text/html": html, "text/plain": ""}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
