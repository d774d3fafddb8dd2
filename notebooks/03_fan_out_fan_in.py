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
# # Fan out, fan in: many parts, one result
#
# *For anyone who splits work into parts and needs something made of all of them. Ten minutes.*
#
# You will count the words of Python's standard library in parts, merge the parts in a tree that the store drives by itself, take the first
# few instead of all, and decide what happens where a part fails. Nothing is downloaded.

# %%
# %load_ext blazing_nb
# %blazing up --app fan --workers 2

# %% [markdown]
# ## Out
#
# A step for one part, which is a list of files, and `map` for all of them: 48 operations.

# %%
import re
import sysconfig
from collections import Counter
from pathlib import Path


@app.step
def count(files):
    """How often each word of five letters or more stands in these files; the hundred most frequent."""
    words = Counter()
    for file in files:
        words.update(re.findall(r"[a-z]{5,}", Path(file).read_text(errors="replace").lower()))
    return dict(words.most_common(100))


library = Path(sysconfig.get_paths()["stdlib"])
files = sorted(str(path) for path in library.rglob("*.py") if not {"site-packages", "test"} & set(path.parts))
parts = count.map([files[i::48] for i in range(48)])
parts

# %% [markdown]
# ## In
#
# The simplest fan-in is here: wait for all, and merge in the notebook. It ends with this kernel.

# %%
here = sum((Counter(part) for part in parts.results(timeout=100)), Counter())
here.most_common(5)

# %% [markdown]
# The other fan-in is in the store: **an operation is an argument**. Where a handle stands among the arguments of another call, the store
# starts that call when the handle is final, with its result in its place, whether or not this kernel lives. Handles may stand in lists, so
# a merge of eight parts is a call whose argument is a list of eight handles, and a tree of merges is no more than that, twice:


# %%
@app.step
def merge(counts):
    """Sums of several counts."""
    total = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


parts = count.map([files[i::48] for i in range(48)])
branches = merge.map([parts[at : at + 8] for at in range(0, 48, 8)])  # a slice of a batch is a list of operations
root = merge.enqueue(branches)  # a batch as an argument is the list of its results
root.status, len(branches)

# %% [markdown]
# Everything is enqueued, and nothing needs this kernel any more: `app.attach(root.id)` finds the root from another one.

# %%
there = root.result(timeout=100)
Counter(there).most_common(5)

# %% [markdown]
# Each operation keeps when it started and how long it ran: one bar for each below, parts in blue, branches in orange. A branch waits for its
# own eight parts and for nothing else, so the first ones run while other parts are still being counted.

# %%
import pandas as pd
from IPython.display import HTML

layers = {"parts": (parts, "#0072b2"), "branches": (branches, "#e69f00")}
frame = pd.concat([batch.to_frame().assign(color=color) for batch, color in layers.values()]).sort_values("started_at")
began = (frame.started_at - frame.started_at.min()).dt.total_seconds()
scale = 660 / (began + frame.run_s).max()
bars = "".join(
    f'<rect x="{scale * start:.1f}" y="{4 * row}" width="{max(3, scale * run):.1f}" height="3" fill="{color}"/>'
    for row, (start, run, color) in enumerate(zip(began, frame.run_s, frame.color, strict=True))
)
HTML(f'<svg viewBox="0 0 664 {4 * len(frame)}" width="664" role="img" aria-label="when each ran">{bars}</svg>')

# %% [markdown]
# ## The first few
#
# `first(batch, k)` as an argument is the list of the first `k` results that succeed: the call starts as soon as they are there.

# %%
from blazing_nb import first

sample = merge.enqueue(first(count.map([files[i::48] for i in range(48)]), 3))
len(sample.result(timeout=100))

# %% [markdown]
# ## Where a part fails
#
# Three rules, chosen by the one who waits: `"fail"` ends it at once and names the cause, `"skip"` goes on without the part, `"collect"` gets the
# exception as a value in its place.

# %%
broken = count.map([files[:5], ["/nowhere/at-all.py"], files[5:10]])


@app.step
def kinds(results):
    return [type(result).__name__ for result in results]


strict = kinds.enqueue(broken)
skipped = kinds.options(on_failure="skip").enqueue(broken)
collected = kinds.options(on_failure="collect").enqueue(broken)
print("fail:   ", type(strict.exception(timeout=30)).__name__)
print("skip:   ", skipped.result(timeout=30))
print("collect:", collected.result(timeout=30))

# %% [markdown]
# Check what was taught, and stop the workers and the server.

# %%
assert there == dict(here) and len(files) > 500
assert root.status == "SUCCEEDED" and branches.done() and parts.failed_count == 0
assert set(sample.result()) <= set(there)
assert (skipped.result(), collected.result()) == (["dict"] * 2, ["dict", "FileNotFoundError", "dict"])

# %blazing down
