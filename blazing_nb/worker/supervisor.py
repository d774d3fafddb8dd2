"""The supervisor: starts an app's workers on this machine, watches, replaces and stops them. A process of its own, one
per app and state directory, that kernels start by command and speak to through `store/station`.

    python -m blazing_nb.worker.supervisor APP

It ends when nothing is wanted and nothing lives. Where it is killed its workers go on, and the next one adopts them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING

import msgspec

from blazing_nb.core.supervision import EVENTS, LEFT, Event, Order, Orders, Post, State
from blazing_nb.store.process import is_owner_alive, started_at
from blazing_nb.store.station import Station
from blazing_nb.worker.place import Child, Place, now_ms, start
from blazing_nb.worker.signals import Signals

if TYPE_CHECKING:
    from blazing_nb.core.scaling import Decision
    from blazing_nb.worker.registry import Registry
    from blazing_nb.worker.scaler import Scaler

log = logging.getLogger(__name__)
EAGER_S = 0.05
TURN_S = 1.0
GUARD_S = 2.0
LATE_S = 2.0
"""A worker gives up by itself when its patience is over; this long after that it is killed."""
STOPPED = "its supervisor was told to stop"
DISMISSED = "all workers were dismissed (app.workers.close)"


class Supervisor:
    """Keeps what lives equal to what is wanted. One thread; every turn is short."""

    def __init__(self, app_id: str) -> None:
        self.app_id = app_id
        self._station = Station(app_id)
        self._orders = Orders()
        self._places: dict[int, Place] = {}
        self._leaving: list[tuple[Post, Child]] = []
        self._events: list[Event] = []
        self._scalers: dict[str, Scaler] = {}
        self._decisions: list[Decision] = []
        self._written: State | None = None
        self._reached: Registry | None = None
        self._asked_s = self._weighed_s = self._scaled_s = self._heeded_s = 0.0
        self._ending = 0
        self._me = started_at(os.getpid()) or ""

    def run(self) -> int:
        """Until nothing is wanted, or SIGTERM; 0, or 1 where another supervisor is at work."""
        guard = self._guard()
        if guard is None:
            return 1
        with guard, Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD) as signals:
            self._adopt()
            while True:
                self._obey(signals.ends)
                self._tend()
                self._write()
                if not self._places and not self._leaving and self._is_over(guard):
                    return 0
                signals.wait(self._pause_s())

    def _guard(self) -> IO[str] | None:
        """The guard; somebody who only looks holds it for a moment."""
        end = time.monotonic() + GUARD_S
        while (guard := self._station.guard()) is None and time.monotonic() < end:
            time.sleep(EAGER_S)
        return guard

    def _is_over(self, guard: IO[str]) -> bool:
        """Whether nothing came meanwhile. The guard opens under the lock: whoever orders next finds nobody."""
        with self._station.lock():
            orders = self._station.orders()
            if orders.wanted or orders.version != self._orders.version:  # whoever ordered waits until that is written
                return False
            guard.close()
            return True

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def _obey(self, ends: int) -> None:
        """Make the places that are wanted, and let go those that are not."""
        if ends > self._ending:
            self._ending = ends
            self._change(lambda orders: msgspec.structs.replace(orders, orders=()))
        orders = self._station.orders()
        for order in orders.orders:
            if order.owner and not is_owner_alive(order.owner):
                self._say(-1, f"{order.owner} has ended, and its {order.n} workers with it")
                self._change(partial(Orders.having, order=Order(0, order.owner)))
                orders = self._station.orders()
        news, self._orders = orders.version != self._orders.version, orders
        if self._heed():
            orders = self._orders
        for owner in {*(order.owner for order in orders.orders), *(place.owner for place in self._places.values())}:
            self._provide(orders.of(owner) or Order(0, owner))
        if news:
            for _, child in self._leaving:
                child.end(child.asked, self._grace_s)

    def _heed(self) -> bool:
        """Once a second, and where a worker was told to leave: whether all were dismissed since. True where the orders
        are others now."""
        now = time.monotonic()
        if not self._orders.wanted or now - self._heeded_s < TURN_S:
            return False
        self._heeded_s = now
        after = partial(Orders.after, dismissed_ms=self._registry.dismissed_ms())
        held = after(self._orders)
        if held == self._orders:
            return False
        if len(held.orders) < len(self._orders.orders):
            self._say(-1, f"{DISMISSED}: what was ordered before is over")
        self._change(after)
        self._orders = self._station.orders()
        return True

    @property
    def _grace_s(self) -> float:
        return 0.0 if self._ending > 1 else self._orders.grace

    def _provide(self, order: Order) -> None:
        mine = [place for _, place in sorted(self._places.items()) if place.owner == order.owner]
        for place in [place for place in mine if 0 <= place.dismissed_ms < order.dismissed_ms]:
            mine.remove(place)  # it began before a dismissal that this order comes after
            self._drop(place, DISMISSED)
        mine.sort(key=lambda place: 0 if place.child is None else -1 - place.child.running)  # the idlest go first
        for place in mine[order.n :]:
            self._drop(place, STOPPED if self._ending else "fewer are wanted")
        for place in mine[: order.n]:
            place.ask(order)
        free = (number for number in range(1 << 30) if number not in self._places)
        for _ in range(order.n - len(mine)):
            number = next(free)
            self._places[number] = Place(number, order)

    def _drop(self, place: Place, why: str) -> None:
        del self._places[place.number]
        for child in filter(None, (place.child, place.next)):
            self._let_go(place, child, why, self._grace_s)

    def _let_go(self, place: Place, child: Child, why: str, grace_s: float) -> None:
        self._say(place.number, f"pid {child.pid} is told to end: {why}")
        child.end(why, grace_s)
        about = msgspec.structs.replace(place.post(), state="leaving", since_ms=now_ms())
        self._leaving.append((about, child))

    def _change(self, make: Callable[[Orders], Orders]) -> None:
        """Change the orders: what was wanted is not possible any more."""
        with self._station.lock():
            orders = make(self._station.orders())
            self._station.write(msgspec.structs.replace(orders, version=orders.version + 1))

    # -- what is -----------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take over what an earlier supervisor left behind alive."""
        state = self._station.state()
        for post in state.posts if state else ():
            child = Child(post, None)
            if not post.lives or not child.lives:
                continue
            self._say(post.place, f"pid {post.pid} was found alive")
            if post.state == "leaving":
                child.end(post.reason, self._station.orders().grace)
                self._leaving.append((post, child))
            else:
                order = Order(1, post.owner, post.setting, dismissed_ms=post.dismissed_ms)
                place = self._places[post.place] = Place(post.place, order)
                place.took(child)

    def _tend(self) -> None:
        self._bury()
        self._start()
        self._ask()
        self._weigh()
        self._adapt()
        for place in self._places.values():
            self._replace(place)
        for _, child in self._leaving:
            child.insist()

    def _children(self) -> Iterator[tuple[Place, Child]]:
        for place in list(self._places.values()):
            for child in filter(None, (place.child, place.next)):
                yield place, child

    def _bury(self) -> None:
        """Those that have ended: why, and what they held goes back."""
        for about, child in [row for row in self._leaving if not row[1].lives]:
            self._leaving.remove((about, child))
            self._say(about.place, f"pid {child.pid} has ended")
            self._registry.retire(child.worker_id)
        for place, child in self._children():
            if child.lives:
                continue
            self._registry.retire(child.worker_id)
            if child.code == LEFT:
                place.left(child)
                self._heeded_s = 0.0
                self._say(place.number, f"pid {child.pid} was told through the store to leave")
            else:
                place.failed(child)
                self._say(place.number, f"pid {child.pid} {place.reason}")

    def _start(self) -> None:
        for place in self._places.values():
            if place.child is None and place.is_due:
                self._spawn(place)

    def _spawn(self, place: Place) -> None:
        child = start(self.app_id, place, self._orders, self._station.log(str(place.number)))
        place.took(child)
        self._say(place.number, f"pid {child.pid} was started")
        self._write()  # at once: a supervisor that dies now leaves no worker behind that nobody knows

    def _replace(self, place: Place) -> None:
        """Start another where this one is worn out, and let it go when the other is ready."""
        child = place.child
        if child is None:
            return
        why = child.setting.exceeded(child.done, child.memory_mb)
        if child.setting != place.setting:
            why = "its settings have changed"
        if why and child.ready_s and place.next is None and place.is_due:
            self._say(place.number, f"pid {child.pid} is replaced: {why}")
            self._spawn(place)
        earlier = place.relieved()
        if earlier is not None:
            self._let_go(place, earlier, why or "another has taken its place", earlier.setting.grace)

    def _weigh(self) -> None:
        now = time.monotonic()
        if now - self._weighed_s < TURN_S:
            return
        self._weighed_s = now
        for place, child in self._children():
            child.weigh()
            patience_s = child.setting.patience + LATE_S
            if not child.ready_s and now - child.began_s > patience_s:
                child.kill(f"was not ready within {patience_s:g} s, and was killed")
                self._say(place.number, f"pid {child.pid} {child.verdict}")

    # -- the store ---------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Who is registered and ready. Often while one is starting, else once a second."""
        now = time.monotonic()
        children = {child.worker_id: (place, child) for place, child in self._children()}
        eager = any(not child.ready_s for _, child in children.values())
        if not children or now - self._asked_s < (EAGER_S / 2 if eager else TURN_S):
            return
        self._asked_s = now
        for worker in self._registry.workers():
            place, child = children.get(worker.worker_id, (None, None))
            if place is not None and child is not None and child.learn(worker) and child is place.child:
                place.since_ms = now_ms()

    def _adapt(self) -> None:
        """Let the orders that follow the load do so."""
        orders = [order for order in self._orders.orders if order.adapt is not None]
        if not orders or time.monotonic() - self._scaled_s < TURN_S:
            return
        self._scaled_s = time.monotonic()
        from blazing_nb.worker.scaler import Scaler

        for order in orders:
            scaler = self._scalers.setdefault(order.owner, Scaler())
            mine = {child.worker_id for place, child in self._children() if place.owner == order.owner}
            mine |= {child.worker_id for _, child in self._leaving}
            with self._registry.reaching() as store:
                assert order.adapt is not None  # noqa: S101 - chosen so
                decision = scaler.decide(order.adapt, order.setting, store, mine, order.n)
                if decision.after != decision.before:
                    self._say(-1, f"{decision.before} -> {decision.after} workers: {decision.reason}")
                    self._decisions = [*self._decisions, decision][-EVENTS:]
                    self._change(partial(_scaled, owner=order.owner, n=decision.after))

    @property
    def _registry(self) -> Registry:
        """Of the store that the orders name now. Imported late: the workers start before it is there."""
        from blazing_nb.worker.registry import Registry

        if self._reached is None or self._reached.url != self._orders.url:
            self._reached = Registry(self.app_id, self._orders.url)
        return self._reached

    # -- saying ------------------------------------------------------------------------------------------------------

    def _say(self, place: int, what: str) -> None:
        log.info("%s: %s", f"place {place}" if place >= 0 else "supervisor", what)
        self._events = [*self._events, Event(now_ms(), place, what)][-EVENTS:]

    def _write(self) -> None:
        posts = [place.post() for _, place in sorted(self._places.items())]
        posts += [place.next.post(place.post()) for place in self._places.values() if place.next is not None]
        posts += [child.post(about) for about, child in self._leaving]
        state = State(
            os.getpid(),
            self._me,
            self._orders.version,
            0,
            self._reached.away if self._reached is not None else "",
            tuple(self._decisions),
            tuple(posts),
            tuple(self._events),
        )
        if state != self._written:
            self._written = state
            self._station.write(msgspec.structs.replace(state, at_ms=now_ms()))

    def _pause_s(self) -> float:
        now = time.monotonic()
        eager = any(not child.ready_s for _, child in self._children())
        moments = [place.due_s for place in self._places.values() if place.child is None]
        moments += [child.insists_s for _, child in self._leaving]
        adopted = any(child.code is None for _, child in self._leaving)  # no SIGCHLD comes for those
        return max(0.0, min([EAGER_S if eager or adopted else TURN_S, *(moment - now for moment in moments)]))


def _scaled(orders: Orders, owner: str, n: int) -> Orders:
    """To so many, unless somebody has changed that order meanwhile."""
    order = orders.of(owner)
    return orders if order is None or order.adapt is None else orders.having(msgspec.structs.replace(order, n=n))


def main(app_id: str) -> int:
    """Supervise, with a log on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return Supervisor(app_id).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
