"""Where this user's state lives: keys, the embedded server's data, logs. Private to the user."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def home() -> Path:
    """`BLAZING_HOME`, else the platform's data directory; made with mode 0700 where it is missing."""
    named = os.environ.get("BLAZING_HOME")
    if named:
        path = Path(named).expanduser().absolute()
    else:
        from platformdirs import user_data_path

        path = user_data_path("blazing_nb")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def file_name(app_id: str) -> str:
    """An app's name as part of a file's name: one to one, never a path."""
    return quote(app_id, safe="")
