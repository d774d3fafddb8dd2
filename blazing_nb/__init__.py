"""A durable, distributed task queue that is driven from a notebook.

Owns the list of public names. Each is loaded when first used, so that `import blazing_nb` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blazing_nb.client.app import Blazing
    from blazing_nb.client.batch import Batch
    from blazing_nb.client.dependency import first
    from blazing_nb.client.gathering import as_completed, gather, wait
    from blazing_nb.client.operation import Operation
    from blazing_nb.client.step import Step
    from blazing_nb.core.control import Cancel, Retry
    from blazing_nb.core.snapshot import Snapshot
    from blazing_nb.core.status import Status
    from blazing_nb.errors import BlazingError, OperationTimeout
    from blazing_nb.worker.current import current
    from blazing_nb.worker.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Blazing",
    "BlazingError",
    "Cancel",
    "Operation",
    "OperationTimeout",
    "Retry",
    "Snapshot",
    "Status",
    "Step",
    "Worker",
    "__version__",
    "as_completed",
    "current",
    "first",
    "gather",
    "wait",
]

_MODULES = {
    "Batch": "blazing_nb.client.batch",
    "Blazing": "blazing_nb.client.app",
    "BlazingError": "blazing_nb.errors",
    "Cancel": "blazing_nb.core.control",
    "Retry": "blazing_nb.core.control",
    "current": "blazing_nb.worker.current",
    "Operation": "blazing_nb.client.operation",
    "OperationTimeout": "blazing_nb.errors",
    "Snapshot": "blazing_nb.core.snapshot",
    "Status": "blazing_nb.core.status",
    "Step": "blazing_nb.client.step",
    "Worker": "blazing_nb.worker.worker",
    "as_completed": "blazing_nb.client.gathering",
    "first": "blazing_nb.client.dependency",
    "gather": "blazing_nb.client.gathering",
    "wait": "blazing_nb.client.gathering",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ip: InteractiveShell) -> None:
    """`%load_ext blazing_nb`."""
    from blazing_nb.magic.extension import load_ipython_extension as load

    load(ip)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """`%unload_ext blazing_nb`."""
    from blazing_nb.magic.extension import unload_ipython_extension as unload

    unload(ip)
