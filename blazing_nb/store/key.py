"""Names of the keys that Python reads or writes without a script. The scripts derive theirs from the prefix."""

from __future__ import annotations

import msgspec


class Keys(msgspec.Struct, frozen=True):
    """Keys of one app and shard; all share one hash tag."""

    app: str
    shard: int = 0

    @property
    def prefix(self) -> str:
        return f"bz:{{{self.app}:{self.shard}}}:"

    @property
    def meta(self) -> str:
        return self.prefix + "meta"

    @property
    def steps(self) -> str:
        return self.prefix + "steps"

    def code(self, digest: bytes) -> str:
        return f"{self.prefix}code:{digest.hex()}"

    def batch(self, name: str) -> str:
        return f"{self.prefix}batch:{name}"

    def bell(self, step: str) -> str:
        return f"{self.prefix}bell:{step}"

    def done(self, node: str, incarnation: int) -> str:
        return f"{self.prefix}done:{node}:{incarnation}"

    def out(self, node: str, incarnation: int, counter: int) -> str:
        return f"{self.prefix}out:{node}:{incarnation}:{counter >> 7}"

    def blob(self, digest: str) -> str:
        return f"{self.prefix}blob:{digest}"
