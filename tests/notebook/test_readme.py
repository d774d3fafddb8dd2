"""The README's Python runs as it stands, in order, in one shell, on a fresh server; then the site's first page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

README = Path(__file__).parents[2] / "README.md"
INDEX = README.parent / "docs" / "index.md"


@pytest.mark.slow
def test_the_readme_and_the_sites_first_page_run(fresh_home: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text() + INDEX.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    shell = InteractiveShell()

    async def run() -> None:
        for block in blocks:
            done = await shell.run_cell_async(block, transformed_cell=shell.transform_cell(block))
            done.raise_error()
        assert done.result == [2, 3, 1]  # the last line of the site's first page

    asyncio.run(run())
    assert shell.user_ns["operation"].result() == 6
    assert shell.user_ns["batch"].results() == [2, 3, 1]
    shell.user_ns["app"].close()
    shell.extension_manager.unload_extension("blazing_nb")
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()
