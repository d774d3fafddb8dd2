"""`up`, `down`, `url`: the server and the workers of this machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from blazing_nb.verb import Text, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


class Stopped(NamedTuple):
    """What `down` stopped."""

    workers: int
    server: bool

    def __repr__(self) -> str:
        return f"<Stopped: {self}>"

    def __str__(self) -> str:
        server = "stopped" if self.server else "was not touched"
        return f"{self.workers} workers stopped; the embedded server {server}"


def up(app: Blazing, args: argparse.Namespace) -> Blazing:
    app.connect()
    if args.workers is not None:
        if args.attached:
            app.workers.start(args.workers, detached=False)
        else:
            app.workers.scale(args.workers)
    return app


def down(app: Blazing, args: argparse.Namespace) -> Stopped:
    from blazing_nb.notebook.pump import pump
    from blazing_nb.store import embedded

    pump.close(app)
    workers = app.workers.stop()
    app.close()
    return Stopped(workers, False if args.keep_server else embedded.stop())


def url(app: Blazing, args: argparse.Namespace) -> Text:
    from blazing_nb.store.address import shown

    return Text(shown(app.url))


def _is_up(app: Blazing) -> str:
    from blazing_nb.store.address import shown

    return f"{app.app_id} is up at {shown(app.url)}; {app.workers!r}"


def _up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="scale the app's workers on this machine to N")
    parser.add_argument("--attached", action="store_true", help="they end with this kernel, even if it is killed")


def _down(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep-server", action="store_true", help="stop the workers only")


UP = Verb(
    "up",
    "connect, starting the embedded server and workers where they do not run",
    up,
    _up,
    text=_is_up,
    examples=("up --app reports --workers 2",),
)
DOWN = Verb(
    "down",
    "stop the app's workers here, and the embedded server",
    down,
    _down,
    examples=("down --app reports",),
)
URL = Verb(
    "url",
    "where the store is, without its password",
    url,
    examples=("url",),
)
