"""The worker's log: stdlib logging, each record with the operation and attempt that it is about, as text or as JSON.

Owns the record factory and the format of a worker process. What steps print is `output`'s.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

from blazing_nb.core.name import printable
from blazing_nb.errors import UsageError
from blazing_nb.worker.current import running

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_TEXT = "%(asctime)s %(levelname)s %(message)s"
_subject: ContextVar[tuple[str, int] | None] = ContextVar("subject", default=None)


class Journal(NamedTuple):
    """How a process of a worker logs. `configure` it once; children get it with their orders."""

    app: str
    worker: str
    format: str = "text"
    level: str = "info"

    def configure(self) -> None:
        """From now on this process logs to stderr so. Warnings that no filter mentions are shown each time, not once a
        place: each operation has its own."""
        global _configured
        if self.format not in FORMATS or self.level not in LEVELS:
            text = (
                f"A log is {' or '.join(FORMATS)}, of level {', '.join(LEVELS)}, not {self.format!r}, {self.level!r}."
            )
            raise UsageError(f"{text} Look at BLAZING_LOG_FORMAT and BLAZING_LOG_LEVEL.")
        _configured = self
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter(self.app, self.worker) if self.format == "json" else TextFormatter(_TEXT))
        logging.basicConfig(level=self.level.upper(), handlers=[handler])
        mark_records()
        warnings.simplefilter("always", append=True)


class TextFormatter(logging.Formatter):
    """One line, then a traceback; ends with the operation and attempt where there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)  # what a user's text says is no line of its own
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        text, operation = super().format(record), getattr(record, "operation", "")
        if not operation:
            return text
        head, mark, rest = text.partition("\n")
        attempt = getattr(record, "attempt", 0)
        return f"{head} [{operation}{f' attempt {attempt}' if attempt else ''}]{mark}{rest}"


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, app, worker; operation, step and attempt where there is
    one; exception, a traceback; trace_id and span_id within a span of OpenTelemetry."""

    def __init__(self, app: str, worker: str) -> None:
        super().__init__()
        self._fixed = {"app": app, "worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._fixed,
        }
        if operation := getattr(record, "operation", ""):
            row |= {"operation": operation, "step": operation.partition(":")[0]}
            if attempt := getattr(record, "attempt", 0):
                row["attempt"] = attempt
        row |= _trace()
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def _trace() -> dict[str, str]:
    """Of the span that the record is made in, where OpenTelemetry is in use here."""
    found = sys.modules.get("opentelemetry.trace")
    context = None if found is None else found.get_current_span().get_span_context()
    if context is None or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


_configured: Journal | None = None


def configured() -> Journal | None:
    """How this process logs, for the processes that it starts; None where nobody said."""
    return _configured


@contextmanager
def about(operation: str, attempt: int = 0) -> Iterator[None]:
    """What is logged within is about that operation, which need not run here."""
    token = _subject.set((operation, attempt))
    try:
        yield
    finally:
        _subject.reset(token)


def mark_records() -> None:
    """Give every record of this process `operation` and `attempt`: of the step that emits it, else "" and 0."""
    before = logging.getLogRecordFactory()
    if not isinstance(before, _Marked):
        logging.setLogRecordFactory(_Marked(before))


class _Marked:
    """A record factory round the one there was."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record, subject, execution = self._make(*args, **kwargs), _subject.get(), running.get()
        if subject is None:
            subject = ("", 0) if execution is None else (execution.operation, execution.attempt)
        record.operation, record.attempt = subject
        return record
