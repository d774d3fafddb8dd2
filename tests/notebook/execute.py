"""`python -m tests.notebook.execute NAME...`: makes notebooks from their sources and executes them for the repository.

Each runs in a fresh kernel on a fresh server, in a state directory of its own that is gone afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete

from blazing_nb.store.process import host_name

FOLDER = Path(__file__).parents[2] / "notebooks"
MACHINE = re.compile(r"\b{0}(?=-\d+-[0-9a-f]{{8}}\b)|(?<=\bon ){0}\b".format(re.escape(host_name())))
"""Its name, where workers are named after it, and where it is said of them."""


class Client(NotebookClient):
    """Takes what updates a display of an earlier cell, too, as JupyterLab does: nbclient would drop it."""

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        assert self.kc is not None
        while True:
            message = await self.kc.iopub_channel.get_msg(timeout=None)
            mine = message["parent_header"].get("msg_id") == parent_msg_id
            if not mine and message["msg_type"] == "update_display_data":
                self._update_display_id(message["content"]["transient"]["display_id"], message)
            try:
                if mine:
                    self.process_message(message, cell, cell_index)
            except CellExecutionComplete:
                return


def execute(notebook: nbformat.NotebookNode, timeout: float = 110) -> None:
    """Run all cells; they are left with their outputs."""
    resources = {"metadata": {"path": str(FOLDER)}}
    Client(notebook, timeout=timeout, kernel_name="python3", resources=resources).execute(env={**os.environ})


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave out what is of this run only."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            said = MACHINE.sub("laptop", json.dumps(cell.outputs))
            cell.outputs = [nbformat.from_dict(output) for output in json.loads(said)]


def main(names: list[str]) -> None:
    home = Path(tempfile.mkdtemp(prefix="bzh-", dir="/tmp"))
    os.environ.update(BLAZING_HOME=str(home), BLAZING_SOCKET_DIR=str(home / "run"), IPYTHONDIR=str(home / "ipython"))
    os.environ.setdefault("NODE_ID", "notebook")  # or else the machine's name would be in the pictures
    try:
        for name in names:
            notebook = jupytext.read(FOLDER / f"{name}.py")
            execute(notebook)
            tidy(notebook)
            nbformat.write(notebook, FOLDER / f"{name}.ipynb")
    finally:  # a notebook that failed left its server and workers
        for app in home.glob("workers/*"):
            subprocess.run([sys.executable, "-m", "blazing_nb", "down", "--app", app.name], check=True)
        shutil.rmtree(home)


if __name__ == "__main__":
    main(sys.argv[1:])
