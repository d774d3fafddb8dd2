"""Faults of a real network: packets vanish between two network namespaces, the kernel's timers do the rest (R18-R20).

Where no such network can be made the tests are expected failures that say why, not passes and not skips.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.fault.network import FAULTS, SLOW_MS, TIMEOUT_S, UNSHARE, missing

LOADED_S = 4.0
"""For what else runs on the tests' machine."""


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """All faults once, in a process that is root of namespaces of its own."""
    if why := missing():
        pytest.xfail(f"no network namespaces can be made here: {why}")
    command = [*UNSHARE, sys.executable, "-m", "tests.fault.network", "--seconds", "1.5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_after_packets_were_lost_everybody_works_again_by_themselves(report: dict[str, Any], fault: str) -> None:
    """Within a second of the cure; what is half-open has none, and is found within two socket timeouts."""
    bound = 2 * TIMEOUT_S if fault.startswith("half_open") else 1.0
    (found,) = report[fault]
    assert max(found.values()) < bound + LOADED_S
    assert report["wrong"] == [], "a reply that was another's"
    assert report["stayed"], "the worker was not started again, nor given up"


@pytest.mark.slow
def test_on_a_narrow_link_everything_arrives_and_takes_longer(report: dict[str, Any]) -> None:
    assert report["narrow"]["round_trip_s"] > report["idle"]["round_trip_s"]


@pytest.mark.slow
def test_on_a_long_link_everything_arrives_and_takes_longer(report: dict[str, Any]) -> None:
    """Elsewhere the proxy delays: `benchmarks.latency`."""
    if "unavailable" in report["delay"]:
        pytest.xfail(f"this kernel delays no packets: {report['delay']['unavailable']}")
    assert report["delay"]["round_trip_s"] > SLOW_MS / 1000
