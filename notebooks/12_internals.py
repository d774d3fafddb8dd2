# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Internals: what is in Redis, looked at with plain commands
#
# *For anyone who wants to see for themselves, or has a Redis prompt open and a question. Ten minutes.*
#
# You will follow three operations through the store by commands that every Redis tool has: no part of this package is needed to look. At the
# end you will know what an operation costs there, in bytes and in commands.

# %%
import os

os.environ["NODE_ID"] = "notebook"  # the name that this notebook writes under
# %load_ext blazing_nb
# %blazing up --app inside
import redis

store = redis.from_url(app.url, decode_responses=False)
store.info("server")["redis_version"]

# %% [markdown]
# ## Waiting
#
# Three operations and no worker. The step waits at a door, so that later we can look while it runs.

# %%
import tempfile
import time
from pathlib import Path

import pandas as pd

folder = tempfile.TemporaryDirectory()
door = Path(folder.name) / "door"


@app.step
def count(text):
    while not door.exists():
        time.sleep(0.01)
    return len(text.split())


batch = count.map(["one two", "three four five", "six"])


def keys():
    """All keys of the app, with their types and sizes in bytes."""
    found = sorted(store.scan_iter("bz:{inside:0}:*", count=1000))
    rows = [(key.decode()[14:], store.type(key).decode(), store.memory_usage(key, samples=0)) for key in found]
    return pd.DataFrame(rows, columns=["bz:{inside:0}:...", "type", "bytes"])


keys()

# %% [markdown]
# The queue is `seg:count:n:notebook`, a **stream**: the segment of the step `count`, priority `n`ormal, that the node `notebook` writes. One entry an
# operation, arguments and all:

# %%
segment = "bz:{inside:0}:seg:count:n:notebook"
for entry, fields in store.xrange(segment):
    print(entry.decode(), fields)

# %% [markdown]
# The text stands there readable: plain data travels as MessagePack. What needs a pickle is signed, and so is `code:...`, the step itself.
#
# The id of an entry is `incarnation-counter`: which start of this node wrote it, and its number. Together with the segment's name that *is* the
# operation's id:

# %%
[operation.id for operation in batch.operations()]

# %% [markdown]
# Redis refuses an id that is not above the last one. So a call that is sent again after a network failure stores nothing twice, without any bookkeeping:

# %%
again = store.xrange(segment, count=1)[0][0]
try:
    store.xadd(segment, {"p": b"once more"}, id=again)
except redis.ResponseError as error:
    refusal = str(error)
refusal

# %% [markdown]
# ## Claimed
#
# Now a worker. A claim is an entry in the stream's **pending list**: who has it, for how many milliseconds, and which claim it is.

# %%
app.workers.start(1)
while store.xpending(segment, "w")["pending"] < 3:
    time.sleep(0.01)
claims = store.xpending_range(segment, "w", "-", "+", 10)
pd.DataFrame(claims).map(lambda value: value.decode() if isinstance(value, bytes) else value)

# %% [markdown]
# `consumer` is the worker and its incarnation, `times_delivered` the number of the claim. These two are the token that the fence compares when a
# result comes in (notebook 02). The entries are still in the stream: if the worker dies now, nothing has to be restored. And what waits is
# the length less what is pending, exact, without counting anything:

# %%
waiting = store.xlen(segment) - store.xpending(segment, "w")["pending"]
waiting, app.snapshot().waiting, app.snapshot().claimed

# %% [markdown]
# ## Final
#
# We open the door. The commit is one script, so all of this happens at once or not at all: the entry leaves the stream, the outcome is written, the
# counters grow, the node is told.

# %%
door.touch()
batch.results(timeout=30)
info = store.xinfo_stream(segment)
info["length"], info["last-generated-id"]

# %% [markdown]
# The stream is empty, but it remembers its last id: late copies are refused for ever. The outcomes are fields of one hash, 128 operations each, under
# their counters. A record is a letter for the status, `S`, the token again, and the times and the result in MessagePack:

# %%
[chunk] = store.scan_iter("bz:{inside:0}:out:*")
records = store.hgetall(chunk)
{counter.decode(): record[:20] for counter, record in sorted(records.items())}

# %%
import msgspec

enqueued_ms, claimed_ms, _, run_us, attempt, payload = msgspec.msgpack.decode(records[b"2"].partition(b";")[2])
result = msgspec.msgpack.decode(payload[1:])  # its first byte says: MessagePack, not a signed pickle
print(f"attempt {attempt}, waited {claimed_ms - enqueued_ms} ms, ran {run_us / 1000:.1f} ms, result {result}")

# %% [markdown]
# ## What it costs
#
# Ten thousand operations, queued while nobody works, then done. Memory first.

# %%
N = 10_000


def by_kind():
    """Bytes an operation by kind of key."""
    frame = keys()
    return frame.groupby(frame.iloc[:, 0].str.partition(":")[0])["bytes"].sum() / N


empty = by_kind()
count.pause()
many = count.map(["seven eight"] * N)
queued = (by_kind() - empty).fillna(0)
before = store.info("commandstats")
count.resume()
many.wait(timeout=60)
after = store.info("commandstats")
app.workers.stop()
done = by_kind().sub(empty, fill_value=0)
pd.DataFrame({"queued": queued, "done": done}).query("queued > 0.5 or done > 0.5").fillna(0).clip(lower=0).round(1)

# %%
from IPython.display import HTML

colors = {"seg": "#0072b2", "out": "#009e73", "whose": "#56b4e9", "done": "#e69f00"}
rows = []
for y, (label, kinds) in enumerate({"queued": queued, "done": done}.items()):
    x = 70.0
    rows.append(f'<text x="0" y="{20 + 36 * y}" font-size="13" fill="currentColor">{label}</text>')
    for kind, size in kinds[kinds > 0.5].items():
        width = 3.2 * size
        rows.append(
            f'<rect x="{x:.0f}" y="{6 + 36 * y}" width="{width:.0f}" height="20" fill="{colors.get(kind, "#999")}"/>'
        )
        text = f"{kind}: {size:.0f} bytes" if size > 15 else ""
        rows.append(f'<text x="{x + 4:.0f}" y="{20 + 36 * y}" font-size="12" fill="#fff">{text}</text>')
        x += width
HTML(
    f'<svg viewBox="0 0 680 78" width="680" role="img" aria-label="bytes an operation, by kind of key">{"".join(rows)}</svg>'
)

# %% [markdown]
# Few bytes, since neither a queued nor a finished operation has a key of its own. `done` is news for the node that waits; it is trimmed when that has
# read it.
#
# And commands: how often was the server *called*, by the worker and by this notebook, until ten thousand operations were executed, committed,
# and their results here? (The scripts call commands themselves; these do not travel.)

# %%
sent = {
    name: after[f"cmdstat_{name}"]["calls"] - before.get(f"cmdstat_{name}", {"calls": 0})["calls"]
    for name in ("evalsha", "xread", "blpop")
    if f"cmdstat_{name}" in after
}
print(sent, "- operations for each call:", round(N / sum(sent.values())))

# %% [markdown]
# That is where the speed comes from: a turn of a worker commits hundreds of results and claims hundreds of operations in one call.
#
# Check what was taught, and stop the server. The sums are those of a first run: what is stored stays on disk.

# %%
assert [f"count:n:notebook:{row['message_id'].decode()}" for row in claims] == [o.id for o in batch.operations()]
assert "equal or smaller" in refusal and waiting == 0 == info["length"]
assert {row["times_delivered"] for row in claims} == {1} and len({row["consumer"] for row in claims}) == 1
assert result == batch.results()[1] == 3 and all(record[:1] == b"S" for record in records.values())
assert many.done() and many.failed_count == 0 and sum(sent.values()) < N / 10
assert 0 < queued["seg"] < 200 and 0 < done["out"] < 200
folder.cleanup()
# %blazing down
