"""A real kernel, driven by messages as a front end does; it can be killed."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections import defaultdict
from typing import Any

from jupyter_client.manager import KernelManager


class Kernel:
    """Every message of its output is kept, by the cell that it belongs to."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(env={**os.environ, **environment})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self.outputs: dict[str, list[dict[str, Any]]] = defaultdict(list)

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)

    def run(self, code: str, *, fails: bool = False, timeout: float = 60) -> str:
        """Run a cell to its end; its id."""
        cell = self.begin(code)
        status = self.end(cell, timeout)
        assert (status == "error") == fails, self.text(cell) or self.outputs[cell]
        return cell

    def end(self, cell: str, timeout: float = 60) -> str:
        """Wait until a cell has ended; how."""
        reply = self._client.get_shell_msg(timeout=timeout)
        while reply["parent_header"].get("msg_id") != cell:
            reply = self._client.get_shell_msg(timeout=timeout)
        self.until(lambda: self._is_idle(cell), timeout)
        return str(reply["content"]["status"])

    def begin(self, code: str) -> str:
        return str(self._client.execute(code, store_history=True))

    def value(self, expression: str) -> Any:
        """A literal of the kernel."""
        import ast

        cell = self.run(f"print(repr({expression}))")
        return ast.literal_eval(self.text(cell).strip())

    def until(self, holds: Any, timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < end, dict(self.outputs)
            self._take()

    def _take(self) -> None:
        try:
            message = self._client.get_iopub_msg(timeout=0.2)
        except queue.Empty:
            return
        self.outputs[message["parent_header"].get("msg_id", "")].append(message)

    def _is_idle(self, cell: str) -> bool:
        return any(m["msg_type"] == "status" and m["content"]["execution_state"] == "idle" for m in self.outputs[cell])

    def text(self, cell: str, name: str = "stdout") -> str:
        """What streamed into a cell's output."""
        return "".join(
            m["content"]["text"]
            for m in self.outputs[cell]
            if m["msg_type"] == "stream" and m["content"]["name"] == name
        )

    def shown(self, cell: str) -> list[dict[str, Any]]:
        """The mime bundles of a cell, also updates, without the line of state."""
        found = [m["content"]["data"] for m in self.outputs[cell] if "display_data" in m["msg_type"]]
        return [data for data in found if "bz-cell" not in data.get("text/html", "")]

    def states(self, cell: str) -> list[str]:
        """What the line of state said."""
        found = [m["content"]["data"] for m in self.outputs[cell] if "display_data" in m["msg_type"]]
        return [data["text/plain"] for data in found if "bz-cell" in data.get("text/html", "")]

    def errors(self, cell: str) -> list[dict[str, Any]]:
        return [m["content"] for m in self.outputs[cell] if m["msg_type"] == "error"]

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()
