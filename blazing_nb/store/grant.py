"""Keys that an app gives to another: of one channel or one shared space, derived from its own, in the other's
directory.

`<home>/keys/<other>.d/<owner>/<purpose>.json`, beside the other app's own key file. Copy it to the other's machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import NotShared
from blazing_nb.store.home import file_name, home, private
from blazing_nb.store.secret import load_ring, read_ring, write_ring


class Grant(NamedTuple):
    """`app` may use what `owner` keeps under `purpose` (`chan:<name>` or `shared:<space>`)."""

    app: str
    owner: str
    purpose: str

    @property
    def path(self) -> Path:
        return _folder(self.app) / file_name(self.owner) / f"{file_name(self.purpose)}.json"


def give(owner: str, purpose: str, ring: KeyRing, apps: Iterable[str]) -> None:
    """Let exactly these apps have the keys of a purpose, as far as this machine is concerned."""
    wanted = {Grant(check_name(app, "share_with"), owner, purpose) for app in apps}
    for grant in wanted:
        if grant.path.exists() and read_ring(grant.path).keys == ring.keys:
            continue
        private(grant.path.parent)
        write_ring(grant.path, ring)
    for grant in set(given(owner)) - wanted:
        if grant.purpose == purpose:
            grant.path.unlink(missing_ok=True)


def held(app: str, owner: str, purpose: str) -> KeyRing:
    """The keys that `owner` gave to `app`. Raises `NotShared`."""
    grant = Grant(app, owner, purpose)
    if not grant.path.exists():
        raise NotShared(
            f"App {owner!r} has not shared {purpose!r} with {app!r} on this machine. "
            f"In {owner!r}, say share_with=[{app!r}]; "
            f"from another machine, copy {grant.path.name} of there to {grant.path.parent}.",
            app=app,
            owner=owner,
        )
    return read_ring(grant.path)


def taken(app: str) -> Iterator[Grant]:
    """What others let this app use."""
    for path in sorted(_folder(app).glob("*/*.json")):
        yield Grant(app, unquote(path.parent.name), unquote(path.stem))


def given(owner: str) -> Iterator[Grant]:
    """What this app lets others use."""
    for path in sorted((home() / "keys").glob(f"*.d/{file_name(owner)}/*.json")):
        yield Grant(unquote(path.parent.parent.name.removesuffix(".d")), owner, unquote(path.stem))


def renew(owner: str) -> int:
    """After a rotation: write what this app gave anew; how many files."""
    ring, grants = load_ring(owner), list(given(owner))
    for grant in grants:
        write_ring(grant.path, ring.derive(grant.purpose))
    return len(grants)


def _folder(app: str) -> Path:
    return home() / "keys" / f"{file_name(app)}.d"
