"""Completion of what follows `%blazing` and `%%blazing`: verbs, flags, and the names of what there is.

Names come from memory, so that completing asks nobody: what the notebook's variables hold, and what a thread learnt of
the store after one of the last cells.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from itertools import chain, islice, takewhile
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from blazing_nb.client.app import Blazing
from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.command import build_parser
from blazing_nb.errors import BlazingError
from blazing_nb.store import query

log = logging.getLogger(__name__)
AGE_S = 2.0
LEARN_S = 0.3
SHOWN = 50


class Memory:
    """The names that are known, by the word that stands for them in a metavar: STEP, OP, NAME."""

    def __init__(self) -> None:
        self._learnt: dict[str, list[str]] = {}
        self._at_s = -AGE_S
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def names(self, metavar: str, namespace: dict[str, Any]) -> list[str]:
        """What may stand for `NAME|OP`, the notebook's own first."""
        values = list(namespace.values())
        own = {
            "STEP": chain.from_iterable(value.steps for value in values if isinstance(value, Blazing)),
            "OP": (value.id for value in values if isinstance(value, Operation)),
            "NAME": (value.name for value in values if isinstance(value, Batch) and value.name),
        }
        kinds = [kind for kind in metavar.split("|") if kind in own]
        return list(dict.fromkeys(name for kind in kinds for name in (*own[kind], *self._learnt.get(kind, ()))))

    def learn(self, app: Blazing) -> None:
        """Ask the store in a thread, at most every two seconds."""
        with self._lock:
            if time.monotonic() - self._at_s < AGE_S or (self.thread is not None and self.thread.is_alive()):
                return
            self._at_s = time.monotonic()
            self.thread = threading.Thread(target=self._learn, args=(app,), name="bz-names", daemon=True)
            self.thread.start()

    def _learn(self, app: Blazing) -> None:
        try:
            live = chain(query.live(app.store, pending=True), query.live(app.store, pending=False))
            end = time.monotonic() + LEARN_S
            pages = takewhile(lambda page: time.monotonic() < end, live)
            ids = [op.text for op in islice(chain.from_iterable(pages), SHOWN)]
            self._learnt = {
                "STEP": sorted(app.store.steps()),
                "OP": [*ids, *(op.text for op in self._failed(app))],
                "NAME": query.batches(app.store, SHOWN),
            }
        except BlazingError as error:
            log.debug("no names were learnt: %s", error)

    @staticmethod
    def _failed(app: Blazing) -> list[Any]:
        return [op for step in app.store.steps() for op in query.failed(app.store, step, 5)]


class Completer:
    """The matcher of one shell. Loaded and unloaded with the extension."""

    def __init__(self, ip: InteractiveShell) -> None:
        self._ip = ip
        self.memory = Memory()

        @context_matcher()  # type: ignore[untyped-decorator]
        def blazing_matcher(context: CompletionContext) -> dict[str, Any]:
            return self._match(context)

        self.matcher = blazing_matcher
        ip.Completer.custom_matchers.append(self.matcher)
        ip.events.register("post_run_cell", self._after_cell)

    def close(self) -> None:
        self._ip.Completer.custom_matchers.remove(self.matcher)
        self._ip.events.unregister("post_run_cell", self._after_cell)

    def words(self, line: str) -> list[str]:
        """What may follow, for a line that begins with the magic; its last word is the one being typed."""
        typed = line.split()
        if not line.endswith(" "):
            typed = typed[:-1]
        verbs = _verbs(typed[0])
        chosen = next((i for i, word in enumerate(typed[1:], 1) if word in verbs), None)
        if chosen is None:
            return sorted(verbs)
        actions = verbs[typed[chosen]]._actions
        last = next((a for a in actions if typed[-1] in a.option_strings), None)
        if last is not None and last.nargs != 0:
            return self._values(last)
        flags = sorted(flag for action in actions for flag in action.option_strings if flag.startswith("--"))
        return [*(value for a in actions if not a.option_strings for value in self._values(a)), *flags]

    def _values(self, action: argparse.Action) -> list[str]:
        if action.choices is not None:
            return list(map(str, action.choices))
        return self.memory.names(action.metavar, self._ip.user_ns) if isinstance(action.metavar, str) else []

    def _after_cell(self, *result: Any) -> None:
        app = self._ip.user_ns.get("app")
        if isinstance(app, Blazing) and app.connected:
            self.memory.learn(app)

    def _match(self, context: CompletionContext) -> dict[str, Any]:
        """Matches lines that begin with %blazing or %%blazing; silent elsewhere."""
        line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        if line.split(" ", 1)[0] not in ("%blazing", "%%blazing") or " " not in line:
            return {"completions": []}
        prefix = "" if line.endswith(" ") else line.split()[-1]
        # IPython's token drops leading dashes: only what follows them is replaced.
        cut = len(prefix) - len(context.token) if prefix.endswith(context.token) else 0
        found = [SimpleCompletion(word[cut:]) for word in self.words(line) if word.startswith(prefix)]
        return {"completions": found, "suppress": True}


def _verbs(prog: str) -> dict[str, argparse.ArgumentParser]:
    parser = build_parser(prog)
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)
