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
# # Claims, leases and fences: what happens when a worker dies, or only seems to
#
# *For anyone who has lost a night's work to a process that died. Ten minutes.*
#
# You will kill a worker in the middle of its work and lose nothing. Then you will freeze one until everybody takes it for dead, wake it up
# again, and watch its late result being refused. The work is real: reading Python's standard library.

# %%
# %load_ext blazing_nb
# %blazing up --app fences

# %% [markdown]
# Two workers, each a process. A worker has a **lease**: it says every now and then that it is alive, and one that has not been heard of for
# that long counts as dead. Here that is one second, so that you need not wait; the default is longer.

# %%
app.workers.start(2, lease=1.0, threads=4)

# %% [markdown]
# ## Kill one
#
# A step that counts the functions in a file. The nap makes it slow enough to get in its way.

# %%
import os
import re
import signal
import sysconfig
import time
from pathlib import Path


@app.step
def functions(file):
    time.sleep(0.05)
    return len(re.findall(r"^\s*(?:async )?def ", Path(file).read_text(errors="replace"), re.MULTILINE))


files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
len(files)

# %% [markdown]
# Send them all, wait until some are done, and kill one of the two workers: not politely, as a full memory or a pulled plug would. Each bar of the
# picture is one execution, in the row of the worker that did it.

# %%
from blazing_nb.notebook import Timeline

view = Timeline(app, step="functions")
view.show()
batch = functions.map(files)
while batch.done_count < len(files) // 3:
    time.sleep(0.01)
victim = next(iter(app.workers))
os.kill(victim.pid, signal.SIGKILL)
counts = batch.results(timeout=60)
view.close()

# %% [markdown]
# All results are there, none is missing and none is there twice. What the dead worker had begun are the dark bars, LOST; each of these
# operations ran once more, elsewhere. The row that begins late is a new worker: a supervisor starts another one where one has died.

# %%
len(counts), sum(counts)

# %% [markdown]
# Ask one of them what it went through. A **claim** is a worker's taking of an operation; the claims of an operation are numbered.

# %%
lost = view.to_frame().query("status == 'LOST'")
rescued = app.attach(lost.operation.iloc[0])
rescued.history()[["event", "worker", "claim"]]

# %% [markdown]
# ## Freeze one
#
# Dead workers are the easy case: they do not come back. A worker that is only *slow* (a laptop that slept, a machine that swapped) does come
# back, and does not know that its work was given to another one. The step below writes down who executes it, and then waits at a door.

# %%
import tempfile

from blazing_nb import current

folder = tempfile.TemporaryDirectory()
scene = Path(folder.name)
diary = scene / "diary"


@app.step
def visit(place):
    with diary.open("a") as file:
        print(os.getpid(), current().token, file=file)
    while not (scene / place).exists():  # the door
        time.sleep(0.005)
    current().effect.incr(f"visits to {place}")  # a counter in the store, written with the commit
    return f"{place}, by {os.getpid()}"


def executions(n):
    """The lines of the diary, once there are n of them."""
    until = time.monotonic() + 60
    while not (diary.exists() and len(lines := diary.read_text().splitlines()) >= n):
        assert time.monotonic() < until
        time.sleep(0.01)
    return [line.split() for line in lines]


rome = visit.enqueue("rome")
zombie = int(executions(1)[0][0])
os.kill(zombie, signal.SIGSTOP)  # it does not even notice
print(f"{zombie} is frozen")

# %% [markdown]
# After a second its lease is over, and the other worker begins the same operation. We open the door for it:

# %%
second = executions(2)[1][0]
(scene / "rome").touch()
rome.result(timeout=30)

# %% [markdown]
# Now the zombie goes on right where it was. It comes through the door too, with a result of its own. This is what its log says of that:

# %%
os.kill(zombie, signal.SIGCONT)


def log_of(pid, word):
    """The last line of a worker's log that has the word, once there is one."""
    until = time.monotonic() + 60
    while True:
        frame = app.workers.to_frame()
        lines = " / ".join(frame.log[frame.pid == pid]).split(" / ")
        if found := [line for line in lines if word in line]:
            return found[-1].partition(" WARNING ")[2]
        assert time.monotonic() < until
        time.sleep(0.05)


print(log_of(zombie, "lost"))
print("executed:", len(executions(2)), "times, committed:", app.shared().counter("visits to rome").value, "time")

# %% [markdown]
# Executed twice, committed once, and the result is still the first one.
#
# ## The fence
#
# Where a zombie hears that it was taken for dead before it brings its result, it drops it. Nobody can promise that: the two race. So we declare a
# worker dead that is alive, well, and faster than the news. `retire` is what a supervisor says of a worker that it saw die; with a lease of
# a minute and its one thread taken, the worker itself asks only every twenty seconds.

# %%
app.workers.start(2, lease=60, threads=1)
oslo = visit.enqueue("oslo")
suspect = int(executions(3)[2][0])
[worker] = [worker for worker in app.snapshot().workers if worker.pid == suspect]
app.store.retire(worker.consumer)
executions(4)
(scene / "oslo").touch()
oslo.wait(timeout=30)
print(log_of(suspect, "fenced"))
print("executed: 2 times, committed:", app.shared().counter("visits to oslo").value, "time")

# %% [markdown]
# Both went through the door at the same moment. The **fence** decided, and it is one comparison in the script that writes the result: is this
# claim still the newest? The suspect's was number 1, and number 2 had been given out. No clock is asked and nothing is locked.

# %%
oslo.history()[["event", "worker", "claim"]]

# %% [markdown]
# ## What the fence cannot do
#
# The diary has two lines for each city: what a step does *outside* of the store, it may do twice. Either make it harmless to repeat, let the
# commit do it (`current().effect`, the counter above), or give the outside system the **token**: it grows with each claim, so a database can
# refuse what comes with a lower one than it has seen.

# %%
pids, tokens = zip(*executions(4), strict=True)
tokens[2:]

# %% [markdown]
# Check what was taught, and stop the workers and the server. The sums are those of a first run: what is stored stays on disk.

# %%
assert counts[:5] == [functions(file) for file in files[:5]] and len(counts) == len(files)
assert len(view.to_frame()) == len(files) + len(lost) and "RUNNING" not in set(view.to_frame().status)
assert len(lost) and {"enqueued", "rescued", "succeeded"} <= set(rescued.history().event)
assert rome.result() == f"rome, by {second}" and str(zombie) != second
assert "this outcome is dropped" in log_of(suspect, "fenced")
assert oslo.result() == f"oslo, by {pids[3]}" and int(pids[2]) == suspect
assert [app.shared().counter(f"visits to {place}").value for place in ("rome", "oslo")] == [1, 1]
assert tokens[0] < tokens[1] and tokens[2] < tokens[3]
folder.cleanup()
# %blazing down
