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
# # Apps, channels, shared values: apart by default, together on purpose
#
# *For anyone whose two projects use one server, or whose counts were wrong after a retry. Ten minutes.*
#
# You will run two apps that cannot see each other, let them talk over a channel from which a third one is kept out, and count things that several processes
# count at once, some of which fail in between. The work is real: looking for the longest functions of Python's standard library.

# %%
# %load_ext blazing_nb
# %blazing up --app scouts
from blazing_nb import Blazing

archive = Blazing("archive")
app.workers.start(2)
archive.workers.start(1)

# %% [markdown]
# ## Apart
#
# An **app** is a namespace with workers and a key of its own. Both of these have a step `size`, and neither knows of the other's:

# %%
mine = app.step(lambda text: len(text), name="size").enqueue("two words")
theirs = archive.step(lambda text: len(text.split()), name="size").enqueue("two words")
mine.result(timeout=20), theirs.result(timeout=20)

# %% [markdown]
# The name of an operation of one app means nothing in the other, even on the same server:

# %%
from blazing_nb.errors import OperationUnknown

try:
    archive.attach(mine.id).status
except OperationUnknown as error:
    unknown = error
    print(type(error).__name__, "-", str(error).partition(": ")[2])

# %% [markdown]
# ## Counting without counting twice
#
# This step finds the longest function of a file. It counts the files twice: in a file of its own, as one would, and by an **effect**, which is written
# in the same transaction as its result. One time in three it is interrupted after it has counted, and tried again.

# %%
import ast
import random
import sysconfig
import tempfile
from pathlib import Path

from blazing_nb import current

folder = tempfile.TemporaryDirectory()
tally = Path(folder.name) / "tally"


@app.step(retries=20, backoff=0.01)
def longest(file):
    tree = ast.parse(Path(file).read_text(errors="replace"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    found = max(((node.end_lineno - node.lineno, node.name) for node in functions), default=(0, ""))
    with tally.open("a") as lines:
        lines.write("one more\n")
    current().effect.incr("files")
    current().effect.publish("finds", {"module": Path(file).stem, "function": found[1], "lines": found[0]})
    if random.random() < 1 / 3:
        raise ConnectionError("interrupted, at the worst moment")
    return found[0]


files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).glob("[a-h]*.py"))
finds = app.channel("finds", share_with=["archive"])  # for the next section
lengths = longest.map(files).results(timeout=60)
print("files:            ", len(files))
print("in the tally:     ", len(tally.read_text().splitlines()))
print("by the effect:    ", app.shared().counter("files").value)

# %% [markdown]
# The tally counted attempts. An effect happens with the commit of a success: once, or not at all, whatever was tried in between.
#
# ## Together, on purpose
#
# `publish` above was an effect too: every find is a message in the **channel** `finds`, in one order, kept for a week. It was opened for `archive`
# and for nobody else. So `archive` reads it, from the first message on; `idle=0` stops where no more are there, instead of waiting for others:

# %%
inbox = archive.channel("finds", owner="scouts")
messages = list(inbox.subscribe("first", idle=0))
messages[0].value, len(messages)

# %% [markdown]
# Anybody else is refused: each channel has a key of its own, which only those have to whom it was given.

# %%
from blazing_nb.errors import NotShared

stranger = Blazing("stranger")
try:
    list(stranger.channel("finds", owner="scouts").subscribe("first", idle=0))
except NotShared as error:
    refused = error
    print(type(error).__name__, "-", str(error).partition(". ")[0])

# %% [markdown]
# Each message has a position. Save it with what you made of the message, and go on from there after a restart: nothing is missed meanwhile.

# %%
saved = messages[9].position  # as if it had crashed after ten
later = list(inbox.subscribe(saved, idle=0))
print(len(later), "messages are left; the next is of", later[0].value["module"])

# %% [markdown]
# What `archive` makes of what it heard:

# %%
import pandas as pd
from IPython.display import HTML

heard = pd.DataFrame([message.value for message in messages]).nlargest(12, "lines")
bars = "".join(
    f'<text x="190" y="{15 + 22 * i}" font-size="13" text-anchor="end" fill="currentColor">{row.module}.{row.function}</text>'
    f'<rect x="198" y="{4 + 22 * i}" width="{420 * row.lines / heard.lines.max():.0f}" height="15" fill="#009e73"/>'
    f'<text x="{204 + 420 * row.lines / heard.lines.max():.0f}" y="{15 + 22 * i}" font-size="13" fill="currentColor">{row.lines}</text>'
    for i, row in enumerate(heard.itertuples())
)
label = "the longest functions, in lines"
HTML(f'<svg viewBox="0 0 680 {22 * len(heard) + 6}" width="680" role="img" aria-label="{label}">{bars}</svg>')

# %% [markdown]
# ## Shared values
#
# A space of shared values is written by several apps and processes at once without a lock: a `counter` that loses nothing, a `set`, a `register`, a
# `map`. They read as plain Python. Here both apps write at the same time, four threads each:

# %%
from concurrent.futures import ThreadPoolExecutor

team = app.shared("team", share_with=["archive"])
ours = archive.shared("team", owner="scouts")


def note(space, letter):
    space.counter("notes").incr()
    space.set("letters").add(letter)


with ThreadPoolExecutor(8) as threads:
    for letter in "abcdefghij" * 10:
        threads.submit(note, team, letter)
        threads.submit(note, ours, letter)
team.map("settings")["colour"] = "blue"
ours.counter("notes").value, sorted(ours.set("letters")), dict(ours.map("settings"))

# %% [markdown]
# Check what was taught, and stop the workers and the server. The sums are those of a first run: what is stored stays on disk.

# %%
assert (mine.result(), theirs.result(), type(unknown)) == (9, 2, OperationUnknown)
assert app.shared().counter("files").value == len(files) == len(messages) < len(tally.read_text().splitlines())
assert sorted(message.value["lines"] for message in messages) == sorted(lengths)
assert isinstance(refused, NotShared) and [m.position for m in later] == [m.position for m in messages[10:]]
assert team.counter("notes").value == 200 and team.set("letters").value == set("abcdefghij")
archive.workers.stop()
archive.close()
folder.cleanup()
# %blazing down
