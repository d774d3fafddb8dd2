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
# # Failures, retries, dead letters: when a part of the work does not work
#
# *For anyone whose loop over a thousand items died at item 731. Ten minutes.*
#
# You will see an exception arrive from another process, let a flaky step try again, find what failed for good, mend the cause and send it once
# more, and meet an operation that kills whoever runs it. The data are the modules of Python's standard library, not all of which are on your system.

# %%
# %load_ext blazing_nb
# %blazing up --app failures
app.workers.start(2, lease=1.0, threads=8)

# %% [markdown]
# ## One that fails
#
# How long is a module's source? Some modules exist on other systems only. In a `for` loop the first of them would end everything.

# %%
import importlib.util
import sys
from pathlib import Path


def source_of(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"{name} is not on this system")
    return Path(spec.origin) if spec.has_location and spec.origin.endswith(".py") else None


@app.step
def lines(name):
    source = source_of(name)
    return source.read_text(errors="replace").count("\n") if source else 0


names = sorted(set(sys.stdlib_module_names) - {"__main__"})
batch = lines.map(names)
batch.wait(timeout=30)
print(f"{batch.done_count} done, {batch.failed_count} of them failed")

# %% [markdown]
# Nothing stopped. A batch is a table of what became of each item, so failures are rows like others:

# %%
frame = batch.to_frame()
frame.loc[frame.status == "FAILED", ["status", "attempt", "error"]].head(4)

# %% [markdown]
# `results()` raises the first exception, as the type that it was, with the worker's traceback as its cause. `return_exceptions=True` leaves all in
# their places.

# %%
try:
    batch.results()
except ModuleNotFoundError as error:
    caught = error
    print("here: ", type(error).__name__, "-", error)
    print("there:", str(error.__cause__).strip().splitlines()[-2].strip())
sum(value for value in batch.results(return_exceptions=True) if isinstance(value, int))

# %% [markdown]
# ## One that works the next time
#
# Networks fail and are there again. `retries=5` allows five more attempts, `retry_on` says after which exceptions, and `backoff` how long the first
# pause is at most; each further one is up to twice as long, by chance, so that a thousand failed operations do not come back as one.
# This step fails once, twice, up to three times, and says how often it was tried.

# %%
import time

from blazing_nb import current
from blazing_nb.notebook import Timeline


@app.step(retries=5, backoff=0.3, retry_on=ConnectionError)
def fetch(name):
    time.sleep(0.03)
    attempt = current().attempt
    if attempt <= len(name) % 4:
        raise ConnectionError(f"no answer for {name}")
    return attempt


view = Timeline(app, step="fetch")
view.show()
fetched = fetch.map(names[:40])
attempts = fetched.results(timeout=60)
view.close()

# %% [markdown]
# Every bar is an attempt: orange ones failed and were tried again after a pause, in which the worker did other things. Nobody waited for
# anybody, and the caller saw no exception at all. What happened is kept:

# %%
unlucky = fetched[attempts.index(max(attempts))]
unlucky.history()[["event", "attempt", "worker", "error"]]

# %% [markdown]
# A wrong argument is wrong the next time too. It is not in `retry_on`, so it fails at once, without wasting five attempts:

# %%
hopeless = fetch.enqueue(None)
hopeless.exception(timeout=30), hopeless.attempt

# %% [markdown]
# ## Dead letters
#
# What failed for good stays in the store with its arguments, for a day unless you say otherwise. `app.failed()` lists these **dead letters**.
# Here is a common kind: nothing is wrong with the work, only with the world around it.

# %%
import json
import tempfile

folder = tempfile.TemporaryDirectory()
settings = Path(folder.name) / "settings.json"


@app.step
def count(name):
    word = json.loads(settings.read_text())["word"]
    return (source_of(name).read_text(errors="replace")).count(word)


counts = count.map(["ast", "json", "pathlib", "statistics"])
counts.wait(timeout=30)
app.failed("count").to_frame()[["step", "status", "error"]].replace(str(settings.parent), "...", regex=True)

# %% [markdown]
# Mend the world, then send them once more: each becomes a new operation with the same arguments. Running the line again by mistake finds
# nothing left to send.

# %%
settings.write_text(json.dumps({"word": "return"}))
again = app.failed("count").retry()
again.results(timeout=30), app.failed("count").retry()

# %% [markdown]
# ## Poison
#
# Some input does not raise: it takes the whole process down (a crash in C code, all memory used up). No `except` ever sees that. The store
# does: it sees a worker that died, and gives its work to the next one, which dies too. After the third death the operation is ended as LOST,
# with its story, instead of going on through all of your workers. Its neighbours lose nothing.


# %%
@app.step
def parse(name):
    import os
    import signal

    if name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return name.upper()


parsed = parse.map([*names[:30], "poison", *names[30:60]])
values = parsed.results(timeout=60, return_exceptions=True)
lost = values[30]
print(type(lost).__name__, "-", lost)
parsed.to_frame().status.value_counts().to_dict()

# %% [markdown]
# Two deaths may be bad luck; an operation under which two workers died is run alone, so that the third death is its own and nobody else's.
#
# If you know that a step is dangerous, give it processes of its own. Then the worker lives, and the operation fails like any other:


# %%
@app.step(lane="process", timeout=20)
def fragile(name):
    import os

    os._exit(13)


died = fragile.enqueue("poison").exception(timeout=60)
print(type(died).__name__, "-", died)

# %% [markdown]
# Three budgets, never mixed: **failures** (yours: `retries`), **deaths** of workers (three), and **releases**, when a worker gives work back
# because it is stopped politely (as many as you like). So `retries=0` does not mean that one dead worker loses your work.
#
# Check what was taught, and stop the workers and the server.

# %%
assert batch.done() and batch.failed_count == sum(importlib.util.find_spec(name) is None for name in names) > 0
assert isinstance(caught, ModuleNotFoundError) and "Traceback" in str(caught.__cause__)
assert attempts == [1 + len(name) % 4 for name in names[:40]] and len(unlucky.failures()) == max(attempts) - 1
assert hopeless.attempt == 1 and counts.failed_count == 4 and not len(app.failed("count"))
assert sorted(again.results()) == sorted(
    source_of(n).read_text().count("return") for n in ("ast", "json", "pathlib", "statistics")
)
assert type(lost).__name__ == "OperationLost" and sum(isinstance(value, str) for value in values) == 60
assert type(died).__name__ == "ProcessDied" and died.exitcode == 13
folder.cleanup()
# %blazing down
