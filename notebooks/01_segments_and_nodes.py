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
# # Segments and nodes: everyone writes to a place of their own
#
# *For anyone who sends work from several places: notebooks, services, machines. Ten minutes.*
#
# Three nodes send work to one app at once. Each writes to a **segment** of its own, so none waits for another; the workers look at all of them and
# take a fair share of each. You will see the depths, flood one segment, and see that its neighbours hardly notice. The work is reading
# Python's standard library.

# %%
import os

os.environ["NODE_ID"] = "notebook"  # the name that this notebook writes under; unset, a unique one
# %load_ext blazing_nb
# %blazing up --app segments --workers 2

# %% [markdown]
# A step, and three nodes. A node is no more than a name: here this notebook writes under three of them (`node_id=`); elsewhere each is a machine or
# a service, with `NODE_ID` in its environment.

# %%
import sysconfig
import time
from pathlib import Path


@app.step
def lines(file):
    time.sleep(0.004)
    return Path(file).read_bytes().count(b"\n")


library = Path(sysconfig.get_paths()["stdlib"])
files = sorted(str(path) for path in library.glob("*.py"))
nodes = {"notebook": 60, "laptop": 120, "service": 30}
len(files)

# %% [markdown]
# ## Three nodes, three segments
#
# While nobody claims (the step is **paused**), each node sends a different number. The view shows what waits, steps by nodes: it is live while work
# moves, and what it showed when it was closed is the picture below.

# %%
from blazing_nb.notebook import SegmentDepths

lines.pause()
view = SegmentDepths(app)
view.show()
sent = {node: lines.map(files[:n], node_id=node) for node, n in nodes.items()}
view.close()

# %%
waiting = {segment.node: segment.waiting for segment in app.snapshot().segments}
waiting

# %% [markdown]
# No segment is anybody's property but its writer's: an operation's id says where it is, and by whom it was written when.

# %%
sent["laptop"][0].id

# %% [markdown]
# ## Fair shares
#
# Now `laptop` floods its segment with thousands of operations more, and the step is resumed. A worker that asks for work gets a share of **every** segment
# that has some, so the ten that `service` sends behind the flood do not wait for it.

# %%
flood = lines.map(files * 40, node_id="laptop")
lines.resume()
began = time.monotonic()
behind = lines.map(files[:10], node_id="service")
behind.wait(timeout=60)
served = time.monotonic() - began
left = sum(segment.waiting for segment in app.snapshot().segments if segment.node == "laptop")
print(f"ten operations behind {len(flood):,}: {served:.2f} s; {left:,} of the flood still waited")

# %%
flood.wait(timeout=100)
everything = time.monotonic() - began
print(f"the flood itself: {everything:.1f} s")

# %% [markdown]
# ## In which order?
#
# Within one segment: as written, claimed from the front. Between segments: no order is promised, and none is needed, since nobody compares clocks: an
# operation is named by its node, the node's **incarnation** (a number that grows with each start) and a counter. That is what lets nodes write
# without asking each other.

# %%
first, second = sent["laptop"][0].id, sent["laptop"][1].id
first, second

# %% [markdown]
# ## What it taught

# %%
assert waiting == nodes  # a segment for each node
assert left > 0 and served < everything  # the flood was still there when the ten were done
assert all(batch.wait(timeout=60) for batch in sent.values())
assert sent["laptop"].results() == sent["notebook"].results() + [lines(file) for file in files[60:120]]
# %blazing down
