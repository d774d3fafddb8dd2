"""The app's key file: made once, mode 0600, never shown. Without it a worker refuses every pickle and every step."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import SecretUnsafe
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
        _create(path)
    return _read(path)


def key_path(app_id: str) -> Path:
    """Where this user's keys of the app are; copy the file to other machines that run its workers."""
    return home() / "keys" / f"{file_name(check_name(app_id, 'app_id'))}.json"


def _create(path: Path) -> None:
    """Written beside and linked into place: two processes at once end with one key, and never with half of one."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    key_id = secrets.token_hex(4)
    draft = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.tmp")
    text = json.dumps({"current": key_id, "keys": {key_id: secrets.token_hex(KEY_BYTES)}})
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _read(path: Path) -> KeyRing:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise SecretUnsafe(f"{path} has mode {mode:04o}: others can read it. Run: chmod 600 {path}", mode=mode)
            data = json.loads(file.read())
        return KeyRing({name: bytes.fromhex(key) for name, key in data["keys"].items()}, data["current"])
    except FileNotFoundError:
        raise SecretUnsafe(f"BLAZING_KEY_FILE names {path}, which does not exist.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        # Without its cause: what does not parse may be a secret.
        raise SecretUnsafe(f'{path} is not a key file: {{"current": id, "keys": {{id: hex}}}}.') from None
