"""A worker's posts as one: opened at every shard, registered together, summed up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from blazing_nb.core.shard import shard_of
from blazing_nb.store.store import Store
from blazing_nb.worker.heartbeat import Progress
from blazing_nb.worker.job import Finished, Job
from blazing_nb.worker.post import Bench, Info, Post
from blazing_nb.worker.pulse import Pulse

SHARD_DEADLINE_S = 2.0
"""Of a call of the turn loop where there are other shards to serve meanwhile."""


class Posts:
    """One a shard; none before `open`. The first is the worker's home: the steps are read there, and it is named so."""

    def __init__(self, worker_id: str, lease_ms: int) -> None:
        self._worker_id, self._lease_ms = worker_id, lease_ms
        self._posts: list[Post] = []
        self.order: list[Post] = []
        """The one that has claimed last is last."""
        self._term = 0
        self._terms: dict[int, Post] = {}
        self._progress_lock = threading.Lock()
        self._progress: dict[int, Progress] = {}

    def __iter__(self) -> Iterator[Post]:
        return iter(self._posts)

    def __len__(self) -> int:
        return len(self._posts)

    @property
    def home(self) -> Post:
        return self._posts[0]

    def open(self, store: Store, bench: Bench, finished: deque[Finished]) -> None:
        """One a shard. The only one takes what has finished as it comes."""
        alone = len(store.shards) == 1
        for shard in store.shards:
            if not alone:
                shard.connections.deadline_s = SHARD_DEADLINE_S
            rows: deque[Finished] = finished if alone else deque()
            post = Post(shard, bench, self._worker_id, self._lease_ms, rows)
            # A server may take two turns in either order, which shows where a lane executes one after the other.
            post.overlaps = alone and all(lane.slots > 1 for lane in bench.lanes)
            self._posts.append(post)
        self._url, self._app = store.url, store.keys.app
        self.order = list(self._posts)

    def register(self, info: Mapping[str, str | int], tell: Info, progress: Callable[[], Progress]) -> None:
        """Become known everywhere under new incarnations, and keep the leases."""
        known = dict(info)
        for number, post in enumerate(self._posts):
            self._term += 1
            post.register(self._term, known, tell, self._progress_of(number, progress))
            known["home"] = self.home.consumer
        self._terms = {post.term: post for post in self._posts}
        self._pulse = Pulse(self._url, self._app, [post.consumer for post in self._posts], self._lease_ms)
        self._pulse.start()

    def stop_pulse(self) -> None:
        self._pulse.stop()

    def of(self, job: Job) -> Post:
        """Where a job was claimed; of earlier registrations the first, which drops it."""
        return self._terms.get(job.term, self._posts[0])

    def sort(self, finished: deque[Finished]) -> None:
        """Each outcome to the post of its shard; of earlier registrations to any, which drops it."""
        if len(self._posts) > 1:
            while finished:
                row = finished.popleft()
                self.of(row.job).finished.append(row)

    def _progress_of(self, number: int, progress: Callable[[], Progress]) -> Callable[[], Progress]:
        """What running operations of a shard reported since it was asked last."""
        if len(self._posts) == 1:
            return progress

        def own() -> Progress:
            with self._progress_lock:
                for row in progress():
                    at = shard_of(row[0].rpartition(":")[2], len(self._posts))
                    self._progress.setdefault(at, []).append(row)
                return self._progress.pop(number, [])

        return own

    # -- all of them -------------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Operations that are claimed and not committed."""
        return sum(len(post.holding) for post in self._posts)

    @property
    def done(self) -> int:
        """Operations that were committed."""
        return sum(post.done for post in self._posts)

    @property
    def fenced(self) -> int:
        """Outcomes that were not accepted."""
        return sum(post.fenced for post in self._posts)

    @property
    def restored(self) -> int:
        """Outcomes that were committed again, since the store went back."""
        return sum(post.commits.restored for post in self._posts)

    @property
    def busy(self) -> bool:
        """Whether something is not committed yet."""
        return any(post.busy for post in self._posts)

    @property
    def lease_lost(self) -> bool:
        """Whether one of them lost its lease."""
        return any(post.lease_lost for post in self._posts)

    def is_alone(self, but: Post | None = None) -> bool:
        """Whether one of them, another than `but`, holds an operation that runs alone."""
        return any(post.alone and post.holding for post in self._posts if post is not but)

    def hasten(self) -> None:
        """Say how it is, now, everywhere."""
        for post in self._posts:
            post.hasten()

    def ring(self) -> None:
        """Claim at the next turn, whatever the bells say."""
        for post in self._posts:
            post.rung = True
