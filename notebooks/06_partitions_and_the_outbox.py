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
# # Partitions and the outbox: working on a train
#
# *For anyone whose network goes away in the middle of things. Ten minutes.*
#
# You will put a switch between this notebook and its store, make the network slow, make it lie, and turn it off. Work goes on meanwhile: what you
# send waits in a file on this machine, survives even the death of the process that sent it, and arrives once. The work is reading Python's
# standard library.

# %%
# %load_ext blazing_nb
# %blazing up --app train --workers 2

# %% [markdown]
# A **proxy** stands between us and the store from now on; it forwards everything, until it is told to break something. The workers are in a data
# centre, so to speak, and reach the store as before. `outbox=` (a file, or `True` for one of its own choice) is the only change for
# the sender.

# %%
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

from blazing_nb import Blazing, current
from blazing_nb.client.proxy import Proxy

folder = tempfile.TemporaryDirectory(prefix="bz-")
home = Path(folder.name)
proxy = Proxy(app.url, home / "proxy.sock")
train = Blazing("train", url=proxy.url, node_id="train", outbox=home / "letters")


@train.step
def words(file):
    time.sleep(0.005)
    current().effect.incr("read")  # counted with the commit: how many were really done
    return len(Path(file).read_text(errors="replace").split())


files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
started = time.monotonic()
before = words.map(files[:60]).results(timeout=30)
print(f"{len(before)} files in {time.monotonic() - started:.2f} s")

# %% [markdown]
# ## A slow network
#
# 50 ms each way: a tunnel under the sea. One operation now takes a tenth of a second; sixty, one by one, would take six. But a `map` is *one* message.

# %%
proxy.delay(0.05)
started = time.monotonic()
words.enqueue(files[0]).result(timeout=30)
one = time.monotonic() - started
started = time.monotonic()
words.map(files[:60]).results(timeout=30)
sixty = time.monotonic() - started
proxy.heal()
print(f"one: {one:.2f} s, sixty: {sixty:.2f} s")

# %% [markdown]
# ## A network that lies
#
# Worse than slow: the store does what was asked, and the answer is lost. Was it done? Whoever cannot know must ask again, and then it may be done twice.
# Not here: an operation has its identity before it is sent, so the second call is recognised.

# %%
done = app.shared().counter("read").value
proxy.drop_reply(1)
words.enqueue(files[1]).result(timeout=30)
print("answers lost:", proxy.dropped, "- executed:", app.shared().counter("read").value - done)

# %% [markdown]
# ## No network
#
# Now a long tunnel: nothing passes in either direction. A thread writes down, twenty times a second, how many operations wait on this side and how many have been
# finished on the other one.

# %%
seen, over = [], threading.Event()


def watch():
    while not over.wait(0.05):
        seen.append((time.monotonic(), train.outbox.depth, app.shared().counter("read").value))


threading.Thread(target=watch, daemon=True).start()
time.sleep(0.3)
proxy.partition()
tunnel = started = time.monotonic()
first = words.map(files[:40])
print(f"the first call notices after {time.monotonic() - started:.1f} s")
started = time.monotonic()
more = words.map(files[40:])
last = words.enqueue(files[0])
print(f"the next ones take {1000 * (time.monotonic() - started):.0f} ms")
train.outbox

# %% [markdown]
# The handles are ordinary ones. Their work is just not there yet:

# %%
last.status, len(first) + len(more) + 1, train.outbox.depth

# %% [markdown]
# And the tunnel ends.

# %%
time.sleep(0.5)
proxy.heal()
daylight = time.monotonic()
train.outbox.wait(timeout=30)
results = first.results(timeout=60) + more.results(timeout=60)
time.sleep(0.2)
over.set()
train.outbox

# %%
from IPython.display import HTML

origin, start = seen[0][2], seen[0][0]
length, top = seen[-1][0] - start, max(max(depth, count - origin) for _, depth, count in seen)


def x(moment):
    return 60 + 600 * (moment - start) / length


lines = [
    f'<rect x="{x(tunnel):.1f}" y="24" width="{x(daylight) - x(tunnel):.1f}" height="166" fill="#888" fill-opacity="0.18"/>',
    f'<text x="{x(tunnel) + 6:.1f}" y="40" font-size="12" fill="currentColor">no network</text>',
]
for column, color, label in ((1, "#e69f00", "waiting on the train"), (2, "#009e73", "finished in the data centre")):
    points = [(x(row[0]), 190 - 160 * (row[column] - (origin if column == 2 else 0)) / top) for row in seen]
    path = " ".join(f"{at:.1f},{height:.1f}" for at, height in points)
    lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2.5"/>')
    lines.append(f'<text x="{60 + 210 * (column - 1)}" y="14" font-size="13" fill="{color}">{label}</text>')
lines.append('<line x1="60" x2="660" y1="190" y2="190" stroke="currentColor" stroke-opacity="0.4"/>')
lines.append(f'<text x="52" y="34" font-size="12" text-anchor="end" fill="currentColor">{top}</text>')
lines.append('<text x="52" y="194" font-size="12" text-anchor="end" fill="currentColor">0</text>')
lines.append(f'<text x="660" y="206" font-size="12" text-anchor="end" fill="currentColor">{length:.1f} s</text>')
label = "operations waiting in the outbox and finished, over time"
HTML(f'<svg viewBox="0 0 680 210" width="680" role="img" aria-label="{label}">{"".join(lines)}</svg>')

# %% [markdown]
# ## The process dies in the tunnel
#
# The outbox is a file (SQLite), not memory. Another program sends thirty operations into the void, and is killed before the network is back:

# %%
import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys
from blazing_nb import Blazing
app = Blazing("train", url=sys.argv[1], node_id="notes", outbox=sys.argv[2])
step = app.step(len, name="length")
batch = step.map(["x" * n for n in range(30)], name="notes")
print(app.outbox.depth, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
proxy.partition()
program = subprocess.run(
    [sys.executable, "-c", PROGRAM, proxy.url, str(home / "notes")], stdout=subprocess.PIPE, text=True
)
proxy.heal()
print("accepted:", program.stdout.strip(), "- ended by", signal.Signals(-program.returncode).name)

# %% [markdown]
# Whoever opens the same file next sends what is in it:

# %%
with Blazing("train", url=proxy.url, outbox=home / "notes") as heir:
    print(heir.outbox)
    heir.outbox.wait(timeout=30)
notes = app.attach("notes").results(timeout=30)
notes[:5]

# %% [markdown]
# Check what was taught, and stop the workers and the server. The sums are those of a first run: what is stored stays on disk.

# %%
assert results[:60] == before and len(results) == len(files)
assert proxy.dropped >= 1 and sixty < 30 * one
assert max(depth for _, depth, _ in seen) == len(files) + 1 and train.outbox.depth == 0
assert app.shared().counter("read").value == 60 + 1 + 60 + 1 + len(files) + 1  # each exactly once
assert notes == list(range(30)) and last.status == "SUCCEEDED"
train.close()
proxy.close()
folder.cleanup()
# %blazing down
