"""Others that take part in a wide simulation: who cancels, who pauses a step, and two that fire a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blazing_nb.errors import StoreError
from blazing_nb.store import timetable
from tests.fault.actor import Actor, Crash, Net
from tests.fault.role import STORM_MS

if TYPE_CHECKING:
    from tests.fault.world import World

CAPS = {"g": 2}
RATES = {"g": (150, 2)}
LIMITS = "2;150;2"
PAUSED = ("f", "x")
EVERY_MS = 700
CANCEL_MS, PAUSE_MS = 600, 1500


def take_part(world: World) -> None:
    """Define what they need, without faults, and let them begin."""
    for step in ("f", "g", "j", "m", "s", "x", "z"):
        world.store.define(step, b"h", b"r", b"o", LIMITS if step == "g" else "", now_ms=world.server_ms())
    _schedule(world, "1")
    for name, body in (("canceller", cancel), ("pauser", pause), ("clock 1", tick), ("clock 2", tick)):
        _Bystander(world, name, body)


class _Bystander:
    """Does one thing again and again; where it crashes, another start of it goes on."""

    def __init__(self, world: World, name: str, body: object) -> None:
        self.world, self.name, self.body = world, name, body
        self.start()

    def start(self) -> None:
        Actor(self.world, self.name, self.live)

    def live(self, actor: Actor) -> None:
        net = Net(self.world, actor)
        try:
            while True:
                try:
                    if not self.body(self.world, net, actor):  # type: ignore[operator]
                        return
                except StoreError as error:
                    self.world.note(f"{actor.name}: {error}")
                    actor.sleep(50)
        except Crash:
            if not self.world.over:
                self.world.at(self.world.now + self.world.odd.randrange(500), self.start)
            raise


def cancel(world: World, net: Net, actor: Actor) -> bool:
    actor.sleep(world.odd.randrange(CANCEL_MS))
    if world.stormy and world.acknowledged:
        some = world.odd.sample(sorted(world.acknowledged), min(3, len(world.acknowledged)))
        world.cancels.update(some)
        net.cancel([world.acknowledged[op] for op in some])
    return world.stormy


def pause(world: World, net: Net, actor: Actor) -> bool:
    actor.sleep(world.odd.randrange(PAUSE_MS))
    stormy = world.stormy
    for step in PAUSED:
        net.pause(step, stormy and world.odd.random() < 0.5)
    return stormy


def tick(world: World, net: Net, actor: Actor) -> bool:
    actor.sleep(world.odd.randrange(EVERY_MS // 2))
    due = net.connection().call("ZSCORE", f"{world.prefix}schedules", "every")
    version = net.connection().call("HGET", f"{world.prefix}sched:every", "version")
    if due is not None and version is not None and float(due) <= world.server_ms():
        due_ms = int(float(due))
        timetable.tick(net, "every", version.decode(), due_ms, [due_ms], due_ms + EVERY_MS)
    if world.stormy and world.odd.random() < 0.05:
        _schedule(world, world.odd.choice("12"))
    return world.now < world.born + STORM_MS


def _schedule(world: World, version: str) -> None:
    """Defined, or defined anew otherwise: then it begins anew, with ticks that may have been fired."""
    first = world.born + EVERY_MS
    timetable.schedule(world.store, "every", version, "s", b"r", b"p", due_ms=first, now_ms=world.server_ms())
