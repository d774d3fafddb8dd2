"""The app's key file: made once, mode 0600, never shown. Without it a worker refuses every pickle and every step.

It holds several keys by id, oldest first: the current one signs, all verify. Who read it before a rotation reads it
again where a signature names a key that it does not know.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import SecretUnsafe, UsageError
from blazing_nb.store.home import file_name, home

KEY_BYTES = 32


def load_ring(app_id: str) -> KeyRing:
    """The app's keys, from `BLAZING_KEY_FILE` or `<home>/keys/<app>.json`; made where the latter is missing.

    Raises:
        SecretUnsafe: others can read the file, or it is not a key file.
    """
    named = os.environ.get("BLAZING_KEY_FILE")
    path = Path(named) if named else key_path(app_id)
    if not named and not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_ring(path, _grown(None, use=True), replace=False)
    return read_ring(path)


def key_path(app_id: str) -> Path:
    """Where this user's keys of the app are; copy the file to other machines that run its workers."""
    return home() / "keys" / f"{file_name(check_name(app_id, 'app_id'))}.json"


def rotate(app_id: str, *, stage: bool = False) -> KeyRing:
    """Sign with another key from now on; the older ones still verify what is in flight.

    Args:
        stage: only add the next key, which verifies and does not sign yet: copy the file to all machines, then rotate.
    """
    ring, path = load_ring(app_id), _path(app_id)
    staged = ring.ids[ring.ids.index(ring.current) + 1 :]
    made = KeyRing(ring.keys, staged[0]) if staged and not stage else _grown(ring, use=not stage)
    write_ring(path, made)
    return made


def drop(app_id: str, key_id: str) -> KeyRing:
    """Forget an old key: what it signed is refused from now on, here and wherever the file is copied to.

    Raises:
        UsageError: the current one, or one that is not there.
    """
    ring, path = load_ring(app_id), _path(app_id)
    if key_id == ring.current or key_id not in ring.ids:
        raise UsageError(
            f"A key that can be dropped is one of {[i for i in ring.ids if i != ring.current]}, not {key_id!r}."
        )
    made = KeyRing({name: key for name, key in ring.keys.items() if name != key_id}, ring.current)
    write_ring(path, made)
    return made


def _path(app_id: str) -> Path:
    named = os.environ.get("BLAZING_KEY_FILE")
    return Path(named) if named else key_path(app_id)


def _grown(ring: KeyRing | None, *, use: bool) -> KeyRing:
    key_id = secrets.token_hex(4)
    keys = {**(ring.keys if ring else {}), key_id: secrets.token_bytes(KEY_BYTES)}
    return KeyRing(keys, key_id if use or ring is None else ring.current)


def write_ring(path: Path, ring: KeyRing, *, replace: bool = True) -> None:
    """Written beside and moved into place: nobody reads half of one. Without `replace` the first of two processes
    wins."""
    draft = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.tmp")
    text = json.dumps({"current": ring.current, "keys": {name: key.hex() for name, key in ring.keys.items()}})
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if replace:
        os.replace(draft, path)
        return
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def read_ring(path: Path) -> KeyRing:
    """The keys of a file. Raises `SecretUnsafe`."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            mode = stat.S_IMODE(found.st_mode)
            if mode & 0o077:
                raise SecretUnsafe(f"{path} has mode {mode:04o}: others can read it. Run: chmod 600 {path}", mode=mode)
            data = json.loads(file.read())
        keys = {name: bytes.fromhex(key) for name, key in data["keys"].items()}
        return KeyRing(keys, data["current"], _Reload(path, found))
    except FileNotFoundError:
        raise SecretUnsafe(f"The key file {path} does not exist: copy it from where the app was made.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        # Without its cause: what does not parse may be a secret.
        raise SecretUnsafe(f'{path} is not a key file: {{"current": id, "keys": {{id: hex}}}}.') from None


class _Reload:
    """Reads the file again where it was replaced since: a ring with a reload of its own."""

    def __init__(self, path: Path, found: os.stat_result) -> None:
        self._path = path
        self._seen = self._mark(found)

    @staticmethod
    def _mark(found: os.stat_result) -> tuple[int, int, int]:
        return found.st_ino, found.st_mtime_ns, found.st_size

    def __call__(self) -> KeyRing | None:
        try:
            mark = self._mark(self._path.stat())
        except FileNotFoundError:
            return None
        return None if mark == self._seen else read_ring(self._path)
