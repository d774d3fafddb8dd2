"""The scripts with a witness: every transition writes an event to the stream `trace`, in the same atomic step.

    python -m tests.fault.trace worker --app soak ...

runs `blazing-nb` with such scripts. The order of the events is the server's; `checker.py` reads them.
"""

from __future__ import annotations

import sys

from blazing_nb.store import script
from blazing_nb.worker import pulse

WRITE = """
local function witness(...)
  redis.call('XADD', P .. 'trace', '*', 'e', cmsgpack.pack({...}))
end
"""

POINTS = [
    # file, before what, what is written
    (
        "enqueue",
        "if q.prio == 'd' then",
        "witness('enqueued', now, name, q.incarnation, q.first, n, deadline or 0, q.cap)\n",
    ),
    (
        "enqueue",
        "local at = string.format('%.0f', now)\nregister(name, at)",
        "for _, row in ipairs(q.joins) do\n"
        "  if #row[3] > 0 then witness('awaits', now, name, id_at(q.first + row[1]), row[2], row[3]) end\n"
        "end\n",
    ),
    ("_park", "  redis.call('XCLAIM', P .. 'seg:' .. name, 'w', '@parked'", "  witness('parked', due, name, id)\n"),
    ("_again", "  park(name, id, now + tonumber(delay))", "  witness('failed', now, name, id, token)\n"),
    ("release", "      park(name, id, now + q.delay_ms)", "      witness('released', now, name, id, q.need)\n"),
    ("_rescue", "    redis.call('HSET', live, 'death:'", "    witness('died', now, name, row[1], worker)\n"),
    ("_suspend", "  redis.call('HINCRBY', live, 'waits', 1)", "  witness('suspended', now, name, id, claims, token)\n"),
    ("_cancel", "  redis.call('RPUSH', P .. 'cancels:' .. worker,", "  witness('asked', 0, name, id)\n"),
    (
        "_follow",
        "  return record .. cmsgpack.pack(place), place",
        "  witness('followed', now, name, id, token, place)\n",
    ),
    ("_follow", "  WRITTEN[name] = (WRITTEN", "  witness('enqueued', now, name, incarnation, counter, 1)\n"),
    ("pause", "if q.paused == 1 then", "witness('paused', 0, q.step, q.paused)\n"),
    ("tick", "    redis.call('SET', uniq,", "    witness('enqueued', now, name, incarnation, counter, 1)\n"),
    ("tick", "    fired = fired + 1", "    witness('ticked', now, mark)\n"),
    (
        "_rescue",
        "  redis.call('ZREM', P .. 'workers', worker)",
        "  witness('gave_up', now, worker, tonumber(redis.call('ZSCORE', P .. 'workers', worker) or 0))\n",
    ),
    ("_commit", "      lost[#lost + 1] = name .. ':' .. id", "      witness('fenced', now, name, id, token)\n"),
    ("_unheld", "      have[id] = claims[i]\n", "      witness('reasserted', 0, name, id, q.worker, claims[i])\n"),
    ("_unheld", "      have[id], idle = claims[i]", "      witness('reasserted', 0, name, id, q.worker, claims[i])\n"),
    (
        "_ahead",
        "        finish(name, {{id, record, claims}}, now, retention)",
        "        witness('reasserted', now, name, id, 'ahead.' .. string.match(record, '^.(%d+)%-'), claims)\n",
    ),
    (
        "_finish",
        "  local node = string.match(name, '^[^:]*:[^:]*:(.*)$')\n  local groups = {}",
        "  local heads = {}\n"
        "  for i, item in ipairs(items) do heads[i] = {item[1], string.match(item[2], '^[^;]*')} end\n"
        "  witness('finished', now, name, heads)\n",
    ),
    (
        "turn",
        "local cancels = redis.call('LRANGE'",
        "local given = {}\n"
        "for i, row in ipairs(claims) do\n"
        "  local entries = {}\n"
        "  for j, entry in ipairs(row[4]) do entries[j] = entry[1] end\n"
        "  given[i] = {row[1], row[2], entries}\n"
        "end\n"
        "if #given > 0 then witness('claimed', now, q.worker, given) end\n",
    ),
]


def witnessed(file: str, text: str) -> str:
    """The text of a script with its witnesses."""
    for name, before, event in POINTS:
        if name == file:
            assert text.count(before) == 1, f"{file}.lua has changed: {before!r}; mend the witness"
            text = text.replace(before, event + before)
    return text.rstrip() + WRITE if file == "_clock" else text


def install() -> None:
    """Put the witness into every script that is loaded from now on."""
    source = script._source
    script._source = lambda file: witnessed(file, source(file))
    script.load.cache_clear()
    # A pulse rescues too, in a process of its own.
    pulse.COMMAND[:] = [sys.executable, "-m", "tests.fault.trace", "pulse"]


if __name__ == "__main__":
    from blazing_nb.cli import main

    install()
    sys.exit(pulse.main() if sys.argv[1] == "pulse" else main())
