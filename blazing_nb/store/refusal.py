"""Why `enqueue` was refused, as the exception that says what to do now."""

from __future__ import annotations

from blazing_nb.errors import AppDraining, BatchExists, RolledBack, ScriptRefused, SegmentFull, StoreRestored
from blazing_nb.store.request import Chunk

RESTORED = (
    "An older state of the app's database came back, as from a backup; nothing was stored. Decide: `blazing-nb "
    "restored adopt` (app.adopt()) goes on from it, `blazing-nb restored discard` (app.discard()) deletes it."
)


def enqueue_refusal(error: ScriptRefused, chunk: Chunk) -> Exception:
    """`error` itself where it is none of those that a caller can do something about."""
    fields = error.fields
    if fields.get("code") == "BZDRAIN":
        return AppDraining("The app is drained: it accepts no new operations until %blazing resume or app.resume().")
    if fields.get("code") == "BZRESTORED":
        return StoreRestored(RESTORED)
    if fields.get("code") == "BZROLLBACK":
        missing = int(str(fields["missing"]))
        return RolledBack(f"The store went back: {missing} operations of {chunk.node} are gone.", missing=missing)
    if fields.get("code") == "BZFULL":
        depth, cap = int(str(fields["depth"])), int(str(fields["cap"]))
        return SegmentFull(
            f"Segment {chunk.step}:{chunk.prio}:{chunk.node} holds {depth:,} of at most {cap:,} operations; "
            f"{len(chunk.payloads):,} more were refused. Enqueue again when workers have drained it.",
            depth=depth,
            cap=cap,
        )
    if fields.get("code") == "BZBATCH":
        return BatchExists(
            f"Batch {chunk.batch!r} already holds {fields['total']} operations: attach to it, continue it with "
            "resume=True, or choose another name.",
            name=chunk.batch,
            total=int(str(fields["total"])),
        )
    return error
