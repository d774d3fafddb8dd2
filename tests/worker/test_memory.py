"""Want of memory: a limit on the address space is an error of the operation; the kernel's kill is named as such.

The kernel's files are imitated: a control group of one's own with a memory limit, in which a real kill could be made,
is nothing that a test may count on.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing
from blazing_nb.store.process import memory_bytes
from blazing_nb.worker import memory, place
from tests.condition import until


def v1(root: Path, path: str) -> Path:
    files(root, f"9:name=systemd:/\n4:cpu,memory:{path}\n0::/\n")
    return root / "sys/fs/cgroup/memory"


def v2(root: Path, path: str) -> Path:
    files(root, f"0::{path}\n")
    return root / "sys/fs/cgroup"


def files(root: Path, groups: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/vmstat").write_text("nr_free_pages 7\noom_kill 3\n")


@pytest.mark.parametrize(
    ("made", "events", "limit"),
    [(v1, "memory.oom_control", "memory.limit_in_bytes"), (v2, "memory.events", "memory.max")],
)
@pytest.mark.parametrize("inside", [True, False], ids=["by its path", "in a container"])
def test_the_counts_and_the_lowest_limit_are_read_in_both_versions(
    tmp_path: Path, made: Callable[[Path, str], Path], events: str, limit: str, inside: bool
) -> None:
    top = made(tmp_path, "/apps/one")
    folder = top / "apps/one" if inside else top
    folder.mkdir(parents=True)
    (folder / events).write_text("low 0\noom 2\noom_kill 2\noom_group_kill 9\n")
    (folder / limit).write_text("max\n" if limit == "memory.max" else f"{(1 << 63) - 4096}\n")
    assert (memory.kills(tmp_path), memory.limit_mb(tmp_path)) == ((3, 2), None)
    (folder.parent if inside else folder).joinpath(limit).write_text("512000000\n")
    assert memory.limit_mb(tmp_path) == 512


def test_where_the_kernel_does_not_say_nothing_is_known(tmp_path: Path) -> None:
    assert (memory.kills(tmp_path), memory.limit_mb(tmp_path)) == ((None, None), None)
    assert memory.kills().machine is not None, "this one says it"


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((3, 1), (4, 2), "memory limit of 512 MB of its control group"),
        ((3, 1), (4, 1), "machine was out of memory"),
        ((3, None), (4, None), "machine was out of memory"),
        ((3, 1), (3, 1), "somebody sent it; the kernel killed nothing"),
        ((None, None), (None, None), "out of memory, or somebody"),
    ],
)
def test_the_cause_of_a_kill_follows_what_the_kernel_counted(before: Any, now: Any, said: str) -> None:
    assert said in memory.cause(memory.Kills(*before), memory.Kills(*now), 512.0)


def killed(app: Blazing) -> str:
    """Kill the only worker; what is then said of it."""
    [process] = app.workers
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: app.workers.to_frame().reason[0])
    return str(app.workers.to_frame().reason[0])


def test_a_worker_killed_by_somebody_is_not_said_to_have_lacked_memory(url: str, app_id: str) -> None:
    with Blazing(app_id, url=url) as app:
        app.workers.start(1)
        until(lambda: app.workers.to_frame().memory_mb[0] > 0)
        said = killed(app)
        app.workers.stop(timeout=5)
    assert "died by SIGKILL, not by its supervisor: somebody sent it; the kernel killed nothing" in said
    assert " MB when last looked at" in said


def test_a_kill_that_the_kernel_counted_before_the_last_look_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dying process may be looked at between the count and its end."""
    counts = [memory.Kills(3, 1)]
    monkeypatch.setattr(memory, "kills", lambda: counts[-1])
    child = place.Child(place.Post(0, "ready", pid=os.getpid(), log=str(tmp_path / "log")), None)
    monkeypatch.setattr(place.Child, "code", -signal.SIGKILL)
    child.weigh()
    counts.append(memory.Kills(4, 2))
    child.weigh()
    assert "memory limit" in child.last_words()
    child.weigh()
    assert "somebody sent it" in child.last_words()


def eat(mb: int) -> int:
    return len(bytearray(mb << 20))


def test_a_limit_on_the_address_space_fails_the_operation_and_not_the_worker(
    url: str, app_id: str, worker_process: Any
) -> None:
    worker = worker_process()
    with Blazing(app_id, url=url) as app:
        step = app.step(eat, retries=0)
        assert step.enqueue(1).result(20) == 1 << 20
        limit = memory_bytes(worker.pid) + address_space(worker.pid)
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (limit, limit))
        with pytest.raises(MemoryError):
            step.enqueue(8 << 10).result(20)
        assert step.enqueue(1).result(20) == 1 << 20
        assert [row.pid for row in app.snapshot().workers] == [worker.pid]


def address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
