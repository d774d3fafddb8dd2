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
# # Cells that outlive the kernel, and what happens when something breaks
#
# *For anyone who waits for cells. Ten minutes.*
#
# You will run a cell on a worker, see its output arrive here, find it again by its name as another kernel would, run a cell once for each of
# many items, kill a kernel in the middle of a cell, look into one that failed, and then kill workers on purpose to see that nothing is lost.

# %%
import os
import random

# %load_ext blazing_nb
# %blazing up --app cells
app.workers.start(2, lease=1.0)  # the short lease is for the last section

# %% [markdown]
# ## A durable cell
#
# `%%blazing run` sends the text of the cell with the variables that it reads, `points` and `hits` here, functions with what they use. A
# worker runs it; what it prints and displays appears below it. `--wait` blocks until it is done; without it the cell returns at once, and its
# output goes on arriving while you work elsewhere. A name is given once: `--again` forgets what had it before, so that you can run the cell
# twice.

# %%
points = 200_000


def hits(seed, points):
    chance = random.Random(seed)
    return sum(chance.random() ** 2 + chance.random() ** 2 < 1 for _ in range(points))


# %%
# %%blazing run --name pi --again --wait
from IPython.display import SVG

from blazing_nb import current

found = 0
for part in range(4):
    found += hits(part, points)
    current().progress(part + 1, 4)
    print(f"part {part + 1}: {4 * found / points / (part + 1):.4f}")
estimate = 4 * found / points / 4
bar = f'<rect width="{100 * estimate / 4:.1f}" height="12" fill="#0072b2"/>'
SVG(f'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="12"><title>pi, of 4</title>{bar}</svg>')

# %% [markdown]
# `found` and `estimate` came back: they are ordinary variables of this notebook now. The cell itself is recorded under its name, and any
# kernel that has the app finds it by `attach`: this one after a restart, too.

# %%
# run = %blazing attach pi
run.wait(10)
print(run.status, "-", run.logs().splitlines()[0])
run.result()["estimate"]

# %% [markdown]
# ## A kernel is killed
#
# Now really: a second kernel, as another notebook would have it, sends a cell to the same app, and is killed with SIGKILL while the cell runs.
# (Most of the code starts and kills that kernel; skip it.) The cell does not notice. Here, in this kernel, `attach` finds it, with what it
# had printed before, and waits for its end.

# %%
from jupyter_client.manager import KernelManager

manager = KernelManager(transport="ipc")
manager.start_kernel(env=os.environ | {"NODE_ID": "other"})
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)
sent = client.execute("%load_ext blazing_nb\n%blazing up --app cells", reply=True, timeout=60)
sent = client.execute(
    """%%blazing run --name survivor --again
import time

for part in range(10):
    print("part", part, flush=True)
    time.sleep(0.2)
answer = 6 * 7
""",
    reply=True,
    timeout=60,
)
other = manager.provisioner.pid
client.stop_channels()
manager.shutdown_kernel(now=True)  # SIGKILL
# survivor = %blazing attach survivor
print(f"kernel {'lives' if os.path.exists(f'/proc/{other}') else 'is dead'}, the cell is {survivor.status}")

# %%
survivor.wait(30)
survivor.logs().splitlines()[-1], survivor.result()["answer"]

# %% [markdown]
# ## Once for each item
#
# `%%blazing map` runs the cell for each item, on all workers at once. Its value is a batch, whose results are the values of the last line.

# %%
# %%blazing map seed in range(8) --name seeds --again --wait
4 * hits(seed, points) / points

# %%
estimates = app.attach("seeds").results()
print(f"{min(estimates):.3f} to {max(estimates):.3f}")

# %% [markdown]
# ## A cell that fails
#
# The error has the cell's own lines. `reproduce()` brings its text and variables here and runs it, so that `%debug` can look into it.

# %%
shares = {"a": 3, "b": 0}

# %%
# %%blazing run --name shares --again
for name, share in shares.items():
    print(name, hits(0, 5 * points) / share)

# %%
# failed = %blazing attach shares
error = failed.exception(20)
print(error.__cause__)
try:
    failed.reproduce()
except ZeroDivisionError as again:
    print("here too:", again)

# %% [markdown]
# ## Break it
#
# The fault lab enqueues work and kills a worker in the middle of it, twice. The supervisor starts others; what the dead ones held runs again
# elsewhere. Watch the two promises: *lost 0, committed twice 0*.

# %%
# lab = %blazing faults kill

# %% [markdown]
# What you have seen, as assertions; then the workers and the server stop. What is stored stays on disk.

# %%
assert abs(estimate - 3.1416) < 0.02 and len(estimates) == 8
assert run.result()["estimate"] == estimate
assert sent["content"]["status"] == "ok" and survivor.result()["answer"] == 42  # its kernel was dead before
assert type(error).__name__ == "ZeroDivisionError" and 'File "<cell shares>", line 3' in str(error.__cause__)
assert lab.holds and lab.experiment.reading.finished == 400
# %blazing down
