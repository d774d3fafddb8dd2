"""Whether the kernel killed for want of memory: how often it did, on this machine and in this process's control group,
and what that group's limit is. Only reads; where the kernel does not say, nothing is known."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes a number of this size where there is no limit."""


class Kills(NamedTuple):
    """How often a process was killed for want of memory: here, and in the group that this process is in. None where the
    kernel does not say."""

    machine: int | None
    group: int | None


def kills(root: Path = ROOT) -> Kills:
    """Up to now. Each is counted before the signal goes out."""
    folder = _folder(root)
    in_group = None
    if folder is not None:
        v2 = _count(folder / "memory.events", "oom_kill")
        in_group = v2 if v2 is not None else _count(folder / "memory.oom_control", "oom_kill")
    return Kills(_count(root / "proc/vmstat", "oom_kill"), in_group)


def limit_mb(root: Path = ROOT) -> float | None:
    """The lowest limit of this process's group and those above it; None where there is none."""
    folder, found = _folder(root), list[int]()
    while folder is not None and folder != root and "cgroup" in folder.parts:
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            found += [int(text)] if text.isdigit() else []
        folder = folder.parent
    limits = [limit for limit in found if limit < UNLIMITED_BYTES]
    return min(limits) / 1e6 if limits else None


def cause(before: Kills, now: Kills, limit: float | None) -> str:
    """Why a process was killed that nobody here sent SIGKILL, from the counts before and after."""
    if _grew(before.group, now.group):
        least = f" of {limit:.0f} MB" if limit is not None else ""
        return f"the kernel killed it: the memory limit{least} of its control group was reached"
    if _grew(before.machine, now.machine):
        return "the kernel killed it, or another process at that moment: the machine was out of memory"
    if now.machine is None and now.group is None:
        return "the machine was out of memory, or somebody sent it"
    return "somebody sent it; the kernel killed nothing for want of memory meanwhile"


def _grew(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before


def _folder(root: Path) -> Path | None:
    """Of the group that accounts for this process's memory. Inside a container its path may be the host's: then the
    container's own is at the top."""
    rows = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    top = root / "sys/fs/cgroup"
    # Where version 1 counts the memory, version 2 does not.
    for controllers, base in (("memory", top / "memory"), ("", top), ("", top / "unified")):
        for _, names, path in rows:
            if controllers == names or (controllers and controllers in names.split(",")):
                for folder in (base / path.lstrip("/"), base):
                    if (folder / "memory.events").exists() or (folder / "memory.oom_control").exists():
                        return folder
    return None


def _count(path: Path, name: str) -> int | None:
    rows = [line.split() for line in _read(path).splitlines()]
    return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), None)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
