"""`acl`, `key`: who may do what, and the keys that say who is who."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from blazing_nb.verb import Text, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

KINDS = ("single", "sentinel", "cluster")
KEY_VERBS = ("list", "stage", "rotate", "drop")


def acl(app: Blazing, args: argparse.Namespace) -> Text:
    """Lines for `redis-cli`: users that are off until they have a password."""
    from blazing_nb.store.acl import rules

    kind = args.kind or urlsplit(args.url or os.environ.get("BLAZING_REDIS_URL", "")).scheme.partition("+")[2]
    return Text("\n".join(rules(args.name or app.app_id, kind, fsync=args.fsync)))


def key(app: Blazing, args: argparse.Namespace) -> Text:
    """The keys' ids then; the current one is marked."""
    from blazing_nb.errors import UsageError
    from blazing_nb.store import grant, secret

    if (args.what == "drop") != (args.id is not None):
        raise UsageError("key drop takes the id of a key, the others take none.")
    if args.what == "drop":
        secret.drop(app.app_id, args.id)
    elif args.what != "list":
        secret.rotate(app.app_id, stage=args.what == "stage")
    given = grant.renew(app.app_id) if args.what != "list" else 0
    ring = secret.load_ring(app.app_id)
    lines = [f"{'*' if key_id == ring.current else ' '} {key_id}" for key_id in ring.ids]
    return Text("\n".join([*lines, *([f"{given} keys given to other apps were renewed"] if given else [])]))


def _acl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="APP", help="the app, as --app")
    parser.add_argument("--kind", choices=KINDS, help="of the store; default: as its url says")
    parser.add_argument("--fsync", action="store_true", help="let the client ask for durability fsync (WAITAOF)")


def _key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=KEY_VERBS, help="stage adds the next key, rotate signs with it")
    parser.add_argument("id", nargs="?", metavar="ID", help="the key to drop")


ACL = Verb(
    "acl",
    "print Redis ACL rules for a client and a worker of the app",
    acl,
    _acl,
    examples=("acl reports",),
)
KEY = Verb(
    "key",
    "list, stage, rotate or drop the app's signing keys",
    key,
    _key,
    examples=(
        "key list --app reports",
        "key rotate --app reports",
    ),
)
