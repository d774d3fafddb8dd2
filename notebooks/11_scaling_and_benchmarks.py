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
# # Scaling: one node, three, five, ten
#
# *For anyone who asks what it costs to be careful, and whether more senders slow it down. Five minutes.*
#
# The system that this package follows published a table: so many API nodes, so many operations a second, so much latency. You will measure the same
# table here, on your own machine, with senders that are processes of their own.

# %%
# %load_ext blazing_nb
# %blazing up --app scaling --workers 2
import os
import platform

print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, 2 workers")

# %% [markdown]
# ## The senders
#
# A **node** is a process that enqueues. These ten obey orders: *from then on, send so many operations a second for so many seconds*, or *send so
# many at once*. Each collects and checks all of its results, and answers with what it saw.

# %%
import json
import subprocess
import sys

NODES = """
import json, sys, time
from multiprocessing import get_context
from operator import neg
from blazing_nb import Blazing

fork = get_context("fork")

def node(name, orders):
    step = Blazing("scaling", url=sys.argv[1], node_id=name).step(neg, name="negate")
    step.map(range(10)).results(timeout=60)
    orders.send("ready")
    while True:
        at, rate, seconds, total = orders.recv()
        time.sleep(max(0, at - time.time()))
        batches, sent = [step.map(range(total))] if total else [], 0
        while not total and (since := time.time() - at) < seconds:
            due = int(rate * since)
            if due > sent:
                batches.append(step.map(range(sent, due)))
                sent = due
            time.sleep(0.02)
        results = [value for batch in batches for value in batch.results(timeout=100)]
        end = time.time()
        assert results == [-n for n in range(len(results))]
        frames = [] if total else [batch.to_frame() for batch in batches]
        orders.send([len(results), end - at, [1000 * s for frame in frames for s in frame.wait_s + frame.run_s]])

pipes = []
for n in range(10):
    ours, theirs = fork.Pipe()
    fork.Process(target=node, args=(f"api-{n}", theirs), daemon=True).start()
    pipes.append(ours)
print(json.dumps([pipe.recv() for pipe in pipes]), flush=True)
for line in sys.stdin:
    active, order = json.loads(line)
    for pipe in pipes[:active]:
        pipe.send(order)
    print(json.dumps([pipe.recv() for pipe in pipes[:active]]), flush=True)
"""
nodes = subprocess.Popen(
    [sys.executable, "-c", NODES, app.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
json.loads(nodes.stdout.readline())

# %% [markdown]
# ## At the published load
#
# First the same load as in the published table, and no more: 1,000 operations a second from one node, up to 8,000 from ten. How long from the enqueue to
# the end of the execution, by the store's clock? (*ops/s here* counts until the last result is back, so it is a little less than what was sent.)

# %%
import time

import pandas as pd

published = pd.DataFrame({"nodes": [1, 3, 5, 10], "ops/s": [1000, 2800, 4500, 8000], "ms": [10, 12, 15, 20]})


def ask(n, rate=0.0, seconds=0.0, total=0):
    """What the first n nodes saw: operations, seconds until the last result, milliseconds of each operation."""
    order = [time.time() + 0.1, rate / n, seconds, total // n]
    print(json.dumps([n, order]), file=nodes.stdin, flush=True)
    answers = json.loads(nodes.stdout.readline())
    return sum(count for count, _, _ in answers), max(s for _, s, _ in answers), [w for _, _, ws in answers for w in ws]


rows = []
for n, rate, ms in published.itertuples(index=False):
    count, seconds, waits = ask(n, rate, 1.0)
    waits = pd.Series(waits)
    rows.append((n, rate, ms, round(count / seconds), round(waits.median(), 1), round(waits.quantile(0.99), 1)))
loaded = pd.DataFrame(rows, columns=["nodes", "published ops/s", "published ms", "ops/s here", "median ms", "p99 ms"])
loaded

# %% [markdown]
# ## As fast as it goes
#
# Then everything at once: 10,000 operations, shared among the nodes. The clock stops when the last result is in the hands of the node that sent it.

# %%
ask(10, total=10_000)  # once to warm up
fastest = []
for n in published.nodes:
    count, seconds, _ = ask(n, total=10_000)
    fastest.append(round(count / seconds))
table = loaded.assign(fastest=fastest).rename(columns={"fastest": "fastest ops/s here"})
table

# %%
from IPython.display import HTML

top, parts = max(fastest), []
for i, row in enumerate(table.itertuples(index=False)):
    was, now, y = row[1], row[6], 50 * i
    parts.append(f'<text x="0" y="{y + 24}" font-size="13" fill="currentColor">{row[0]} nodes</text>')
    for value, color, dy, text in ((was, "#e69f00", 4, f"{was:,} published"), (now, "#0072b2", 22, f"{now:,} here")):
        width = 440 * value / max(top, 8000)
        parts.append(f'<rect x="70" y="{y + dy}" width="{width:.0f}" height="15" fill="{color}"/>')
        parts.append(f'<text x="{76 + width:.0f}" y="{y + dy + 12}" font-size="12" fill="currentColor">{text}</text>')
label = "operations a second by number of nodes: published, and measured here"
HTML(f'<svg viewBox="0 0 680 {50 * len(table)}" width="680" role="img" aria-label="{label}">{"".join(parts)}</svg>')

# %% [markdown]
# Read it as it is. The operation does nothing, so this is what the queue itself costs. Senders, workers and server all share the cores named
# above: ten nodes are ten processes that take turns on them with the workers, which is why more senders make nothing faster on a small machine. The
# published figures come from other machines. What can be compared is the shape: at the published load, how much latency is left of theirs.
#
# A benchmark that you can repeat, with the limits of the engine and other queues beside it, is `make bench`.

# %%
nodes.stdin.close()
nodes.wait(timeout=30)
assert list(table.nodes) == [1, 3, 5, 10] and (table["median ms"] > 0).all()
snapshot = app.snapshot()
assert {f"api-{n}" for n in range(10)} <= {segment.node for segment in snapshot.segments}
assert next(step.succeeded for step in snapshot.steps if step.step == "negate") >= 50_000
assert snapshot.waiting == snapshot.claimed == 0
# %blazing down
