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
# # The dashboard: what all of it does, now and an hour ago
#
# *For anyone who wants to see their work and not only its result. Ten minutes.*
#
# Every view that this package has, on real work: five thousand measurements of gapminder's countries, a few of which fail. Each view is live while work
# moves, asks the store once for all of them, and leaves a plain picture, without scripts, when it is closed. What you see below are these pictures.

# %%
# %load_ext blazing_nb
# %blazing up --app dashboard --workers 2

# %% [markdown]
# ## The work
#
# A row of data a call; a fit that takes a few milliseconds, and refuses countries whose name is too long, at first.

# %%
import time

import plotly.data

frame = plotly.data.gapminder()
rows = [(row.country, row.year, row.lifeExp, row.gdpPercap) for row in frame.itertuples()]


@app.step(retries=1, backoff=0.05)
def measure(country, year, life, wealth):
    time.sleep(0.008)
    if len(country) > 22:
        raise ValueError(f"{country} does not fit")
    return round(life * wealth**0.5, 1)


len(rows)

# %% [markdown]
# ## All of it at once
#
# `Dashboard(app)`, or `%blazing dashboard`; `blazing-nb dashboard` is the same as a page of its own in the browser. Throughput, latency, depths, the flow between
# statuses, workers, and the timeline are one view each, too. Here each of them watches while three batches go through.

# %%
from blazing_nb.notebook import Dashboard

dashboard = Dashboard(app)
dashboard.show()
batches = [measure.starmap(rows) for _ in range(3)]
for batch in batches:
    batch.wait(timeout=100)
dashboard.close()

# %% [markdown]
# ## One question, one view
#
# *Where does the time go?* Latency splits the wait in the queue from the execution, in quantiles and as a heat map: each column is a second.

# %%
from blazing_nb.notebook import Latency

latency = Latency(app)
latency.show()
again = measure.starmap(rows)
again.wait(timeout=100)
latency.close()

# %% [markdown]
# *What failed?* Every view is a frame as well (`to_frame()`), a plotly figure (`figure()`), and text in a terminal (`print(view)`); what failed is a listing of its own.

# %%
failed = app.failed("measure")
failed.to_frame()["error"].value_counts().head(3)

# %%
counts = dashboard.to_frame()
counts.tail(3)

# %% [markdown]
# ## Controls
#
# The buttons of the dashboard are calls, too. What takes work away asks first: without `sure=True` it says what it would do.

# %%
question = dashboard.control("pause", "measure")
done = dashboard.control("pause", "measure", sure=True)
question["ask"], done["said"]

# %%
held = measure.starmap(rows[:50])
before = app.snapshot().waiting
dashboard.control("resume", "measure")
held.wait(timeout=30), before

# %% [markdown]
# ## What it taught
#
# The sums are those of a first run: what is stored stays on disk.

# %%
assert "Pause" in question["ask"] and before == 50  # it asked, and then nobody claimed
assert len(failed) == sum(len(row[0]) > 22 for row in rows) * 4 + sum(len(row[0]) > 22 for row in rows[:50])
assert sum(batch.done_count for batch in batches) == 3 * len(rows)
# %blazing down
