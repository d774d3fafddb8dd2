"""Steps that worker processes import by path."""

from __future__ import annotations

import asyncio
import os
import time

from blazing_nb import Blazing

app = Blazing("by-import")


@app.step
def add(x: int, y: int) -> int:
    return x + y


@app.step
def hold(marker: str, seconds: float) -> int:
    """Append this process's id to a file, then take time."""
    with open(marker, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


@app.step
async def pause(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
