"""What an app's workers run before they claim: `@app.on_start`, signed and sent as the code of a step is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.client.code import describe
from blazing_nb.core.code import HOOK, seal_code
from blazing_nb.core.policy import Policy

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


def define_hook(app: Blazing, function: Callable[[], Any]) -> None:
    """Record it in the store; workers that run already run it too where it is new."""
    digest, sealed = seal_code(describe(function, HOOK, Policy()), app.app_id, HOOK, app.ring)
    app.define(HOOK, digest, sealed, msgspec.msgpack.encode({"lane": "start", "code": digest}))
