"""What is executed, importable by workers."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time


def add(x: int, y: int) -> int:
    """Plain integers in, a plain integer out."""
    return x + y


def nap(seconds: float) -> None:
    """Wait, as for a reply from elsewhere."""
    time.sleep(seconds)


def fail(x: int) -> None:
    raise ValueError(x)


def hold(marks: str) -> str:
    """Say when it begins, then go on until it is told to end: there are two files in the folder `marks`."""
    folder = pathlib.Path(marks)
    with open(folder / "begun", "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    while folder.exists() and not (folder / "go").exists():
        time.sleep(0.01)
    return "held"


async def rest(marker: str, seconds: float) -> None:
    """Say that it has begun, then wait without a thread."""
    with open(marker, "a") as file:
        file.write("x\n")
    await asyncio.sleep(seconds)
