"""`doctor`: what is wrong, and what to do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.doctor import Diagnosis


def doctor(app: Blazing, args: argparse.Namespace) -> Diagnosis:
    return app.doctor()


DOCTOR = Verb(
    "doctor",
    "look at the server, the key and the workers, and say what to do",
    doctor,
    failed=lambda found: not found.healthy,
    examples=("doctor --app reports",),
)
