"""What is wanted of an app's workers on one machine, how each place fares, and when one is started again. Pure."""

from __future__ import annotations

import msgspec

from blazing_nb.core.scaling import Adapt, Decision
from blazing_nb.errors import UsageError

PLACES = 64
"""Worker processes of an app on a machine, at most."""
LEFT = 3
"""Exit code of a worker that was told through the store to leave: that is no failure of its place."""
UNREADY = 4
"""Exit code of a worker whose `on_start` failed."""
FIRST_MS = 500
LONGEST_MS = 60_000
STEADY_MS = 10_000
"""Ready for so long, an end is the first of its kind again."""
EVENTS = 50


class Setting(msgspec.Struct, frozen=True):
    """How a worker is started: seconds, counts and megabytes as the user gives them; checked when made.

    `patience` is how long it may take to become ready; `max_operations` and `max_memory_mb` say when another takes its
    place (None: never).
    """

    lease: float = 10.0
    threads: int = 8
    processes: int | None = None
    grace: float = 30.0
    patience: float = 120.0
    max_operations: int | None = None
    max_memory_mb: float | None = None

    def __post_init__(self) -> None:
        if not 0.3 <= self.lease <= 3600:
            raise UsageError(f"A worker's lease is 0.3 to 3600 s, not {self.lease}.", lease=self.lease)
        if self.threads < 1 or (self.processes is not None and self.processes < 1):
            raise UsageError(f"A worker has 1 thread and 1 process at least, not {self.threads}, {self.processes}.")
        if self.grace < 0 or self.patience <= 0:
            raise UsageError(f"grace is 0 s at least, patience more, not {self.grace} and {self.patience}.")
        if self.max_operations is not None and self.max_operations < 1:
            raise UsageError(f"max_operations is 1 at least, not {self.max_operations}.")
        if self.max_memory_mb is not None and self.max_memory_mb <= 0:
            raise UsageError(f"max_memory_mb is more than 0, not {self.max_memory_mb}.")

    def changed(self, **options: float | None) -> Setting:
        """The same with what is given; None leaves it as it is."""
        return msgspec.structs.replace(self, **{name: value for name, value in options.items() if value is not None})

    def arguments(self) -> list[str]:
        """As `blazing-nb worker` takes them; the two limits are the supervisor's business."""
        found = ["--lease", str(self.lease), "--threads", str(self.threads), "--grace", str(self.grace)]
        found += ["--patience", str(self.patience)]
        return found if self.processes is None else [*found, "--processes", str(self.processes)]

    def exceeded(self, done: int, memory_mb: float) -> str:
        """Why a process is to be replaced; empty where it is not."""
        if self.max_operations is not None and done >= self.max_operations:
            return f"it has done {done} operations (max_operations={self.max_operations})"
        if self.max_memory_mb is not None and memory_mb > self.max_memory_mb:
            return f"it has {memory_mb:.0f} MB (max_memory_mb={self.max_memory_mb:g})"
        return ""


class Order(msgspec.Struct, frozen=True):
    """So many workers, for one owner: "" where they outlive whoever ordered them, else "<pid>:<start time>"."""

    n: int
    owner: str = ""
    setting: Setting = Setting()
    adapt: Adapt | None = None
    """Within these bounds `n` follows the load."""
    asked: int = 0
    """The version with which somebody asked for it last: then earlier failures do not count any more."""
    dismissed_ms: int = -1
    """The app's last dismissal when it was given: a later one ends it. -1: the store was not asked."""

    def is_over(self, dismissed_ms: int) -> bool:
        return 0 <= self.dismissed_ms < dismissed_ms


class Orders(msgspec.Struct, frozen=True):
    """All that is wanted of one machine, for the store at `url`, with that import path, from that directory. `version`
    grows with each change: whoever changed it can see it obeyed."""

    url: str = ""
    path: str = ""
    cwd: str = ""
    version: int = 0
    grace: float = 30.0
    orders: tuple[Order, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether somebody wants something; workers may be none now, where they follow the load."""
        return bool(self.orders)

    def of(self, owner: str) -> Order | None:
        return next((order for order in self.orders if order.owner == owner), None)

    def after(self, dismissed_ms: int) -> Orders:
        """What holds where the app's workers were dismissed last at that moment. What was ordered without asking the
        store counts as ordered after it."""
        held = [order for order in self.orders if not order.is_over(dismissed_ms)]
        known = [o if o.dismissed_ms >= 0 else msgspec.structs.replace(o, dismissed_ms=dismissed_ms) for o in held]
        return msgspec.structs.replace(self, orders=tuple(known))

    def having(self, order: Order) -> Orders:
        """With this one instead of its owner's earlier one; an order of none, for good, is dropped."""
        others = [other for other in self.orders if other.owner != order.owner]
        wanted = order.n > 0 or order.adapt is not None
        return msgspec.structs.replace(self, orders=tuple([*others, order] if wanted else others))


class Event(msgspec.Struct, frozen=True):
    """What the supervisor saw or did, at a moment of this machine's clock, in ms."""

    at_ms: int
    place: int
    what: str


class Post(msgspec.Struct, frozen=True):
    """One worker process or the place for one, as the supervisor last saw it.

    `state`: starting, ready, replacing (another is starting in its place), leaving, waiting (for its next start).
    `reason` is why the place's last process ended, or why this one leaves; with its last log lines where it failed.

    Examples:
        >>> app.workers.posts()  # those of this machine; see `Workers.posts`
        []
    """

    place: int
    state: str
    owner: str = ""
    setting: Setting = Setting()
    pid: int = 0
    started: str = ""
    worker_id: str = ""
    log: str = ""
    since_ms: int = 0
    starts: int = 0
    failures: int = 0
    done: int = 0
    memory_mb: float = 0.0
    steps_version: int = 0
    refuses: dict[str, str] = {}
    reason: str = ""
    dismissed_ms: int = -1

    @property
    def lives(self) -> bool:
        """Whether there is a process.

        Examples:
            >>> [post for post in app.workers.posts() if post.lives]
            []
        """
        return self.pid != 0


class State(msgspec.Struct, frozen=True):
    """What a supervisor last wrote about itself and its places."""

    pid: int
    started: str
    version: int
    at_ms: int
    store: str = ""
    decisions: tuple[Decision, ...] = ()
    posts: tuple[Post, ...] = ()
    events: tuple[Event, ...] = ()


def pause_ms(failures: int) -> int:
    """How long after so many failures in a row the next start waits: 0.5 s, doubling, at most a minute."""
    return 0 if failures < 1 else min(LONGEST_MS, FIRST_MS << min(failures - 1, 16))


def failures_after(failures: int, ready_ms: int) -> int:
    """Failures in a row, after a process ended that had been ready for so long."""
    return 1 if ready_ms >= STEADY_MS else failures + 1
