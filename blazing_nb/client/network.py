"""What the fault lab does to a network: a worker and a node of the lab's own, behind a proxy that breaks.

They are beside the workers that reach the server directly, so that one sees who takes over, and who is fenced.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from blazing_nb.client.proxy import Proxy, script
from blazing_nb.client.supervising import python_path
from blazing_nb.errors import UsageError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.batch import Batch
    from blazing_nb.client.fault import Experiment

LEASE_S = 1.0
READY_S = 20.0
CUT_OFF_S = 8.0
"""At most: a call is given up after 15 s."""
DELAY_S = 0.025
SLOW_S = 3.0
DROPS, DROP_GAP_S = 20, 0.1
FAULTS, LONGEST_S = 40, 0.3


class FarSide:
    """A node and a worker that reach the server through a proxy."""

    def __init__(self, app: Blazing, step: str, seed: int) -> None:
        from blazing_nb.client.app import Blazing
        from blazing_nb.client.fault import probe

        self.seed = seed
        self.proxy = Proxy(app.url, seed=seed)
        self.app = Blazing(app.app_id, url=self.proxy.url, node_id="far")
        self.step = self.app.step(probe, name=step)
        command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app.app_id, "--lease", str(LEASE_S)]
        environment = {**os.environ, "BLAZING_REDIS_URL": self.proxy.url, "PYTHONPATH": python_path()}
        self._worker = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self.pid = self._worker.pid
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._listen, name="bz-far", daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Until its worker claims. Raises `UsageError` where it cannot start."""
        if not self._ready.wait(READY_S) or self._worker.poll() is not None:
            raise UsageError("The worker behind the lab's proxy did not start; see %blazing doctor.")

    def _listen(self) -> None:
        assert self._worker.stdout is not None  # noqa: S101 - a pipe was asked for
        with self._worker.stdout as lines:
            for line in lines:
                if line.startswith(b"ready"):
                    self._ready.set()
        self._ready.set()  # it has ended

    def close(self) -> None:
        """End both, then the proxy. Repeatable."""
        self.proxy.heal()
        self.app.close()
        self._worker.terminate()
        try:
            self._worker.wait(READY_S)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
        self._reader.join()
        self.proxy.close()


def partition(lab: Experiment, far: FarSide, batches: list[Batch]) -> None:
    """Cut off both ways, for longer than the lease; then healed, and the late outcomes arrive."""
    before = lab.counters()
    far.proxy.partition()
    lab.say(f"cut off node far and worker {far.pid}: nothing passes, and nobody is told")
    sending = _send(lab, far, batches)
    lab.wait_for(lambda step: step.rescued > before.rescued, CUT_OFF_S)
    lab.say(f"what worker {far.pid} held runs elsewhere; node far waits with what it enqueues")
    far.proxy.heal()
    lab.say("the network is whole again")
    sending.join()
    lab.say(f"node far's {len(batches[-1])} operations have arrived, once")


def slow(lab: Experiment, far: FarSide, batches: list[Batch]) -> None:
    """Every round trip takes 50 ms more."""
    far.proxy.delay(DELAY_S)
    began = time.monotonic()
    far.app.store.connection().call("PING")
    lab.say(f"a round trip of node far and worker {far.pid} takes {1000 * (time.monotonic() - began):.0f} ms")
    _send(lab, far, batches).join()
    time.sleep(SLOW_S)
    far.proxy.heal()
    lab.say("fast again")


def drop(lab: Experiment, far: FarSide, batches: list[Batch]) -> None:
    """What is asked is done, and the answer does not arrive: it is asked again, and done once."""
    sending = _send(lab, far, batches)
    for _ in range(DROPS):
        far.proxy.drop_reply()
        time.sleep(DROP_GAP_S)
    sending.join()
    far.proxy.heal()
    lab.say(f"forgot {far.proxy.dropped} replies to node far and worker {far.pid}; each was asked for again")


def storm(lab: Experiment, far: FarSide, batches: list[Batch]) -> None:
    """Everything at random, as its seed says."""
    faults = script(far.seed, FAULTS, longest=LONGEST_S)
    lab.say(f"{len(faults)} faults drawn from seed {far.seed}; the first: {faults[0]}")
    sending = _send(lab, far, batches)
    far.proxy.play(faults, threading.Event())
    sending.join()
    lab.say(f"the storm is over: {far.proxy.cuts} connections cut, {far.proxy.dropped} replies forgotten")


def _send(lab: Experiment, far: FarSide, batches: list[Batch]) -> threading.Thread:
    """Node far enqueues meanwhile, in a thread that waits for the network."""

    def send() -> None:
        with lab.blamed():
            batches.append(far.step.starmap((i, 0.0) for i in range(lab.operations)))

    thread = threading.Thread(target=send, name="bz-far-node", daemon=True)
    thread.start()
    return thread


NETWORK = {"partition": partition, "slow": slow, "drop": drop, "storm": storm}
