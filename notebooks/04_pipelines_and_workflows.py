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
# # Pipelines and workflows: what comes next, whoever is still there
#
# *For anyone who has written step two of a script so that it can go on where step one stopped. Ten minutes.*
#
# You will chain steps, send 142 countries through them, mend what got stuck and let it go on from there, and write a workflow that decides what comes
# next. Then all workers stop in the middle of it, for a second that nobody counts. The data ship with plotly (`pip install plotly`).

# %%
# %load_ext blazing_nb
# %blazing up --app pipelines
app.workers.start(2, lease=1.0)

# %% [markdown]
# ## A pipeline
#
# Three ordinary steps. Each takes what the one before it returned.

# %%
import tempfile
import time
from pathlib import Path

import numpy as np
import plotly.data

from blazing_nb import current

gapminder = plotly.data.gapminder()
folder = tempfile.TemporaryDirectory()
checked = Path(folder.name)  # a file here: somebody looked at that country


@app.step
def load(country):
    rows = gapminder[gapminder.country == country]
    current().effect.incr("loaded")  # counted with the commit
    return {"country": country, "years": rows.year.tolist(), "ages": rows.lifeExp.tolist()}


@app.step
def trend(table):
    time.sleep(0.02)
    slope = float(np.polyfit(table["years"], table["ages"], 1)[0])
    if slope < 0 and not (checked / table["country"]).exists():
        raise ValueError(f"life gets shorter in {table['country']}: somebody look at this")
    return {"country": table["country"], "years a decade": round(10 * slope, 2)}


@app.step
def sentence(found):
    return f"{found['country']}: {found['years a decade']:+} years a decade"


flow = load >> trend >> sentence
flow.enqueue("Iceland").result(timeout=30)

# %% [markdown]
# Send all countries. The picture says how many are at which stage; it is what the batch shows as an output, here while things are going on:

# %%
from IPython.display import HTML, display

countries = sorted(gapminder.country.unique())
items = flow.map(countries)
while items.done_count < len(items) // 3:
    time.sleep(0.01)
display(HTML(items._repr_html_()))  # as it is now
items.wait(timeout=60)
items

# %% [markdown]
# No country waited for the others: the first sentences were there while other countries were still at the second stage. Between two stages nobody
# was asked either, this notebook least of all: the *same transaction* that stores a stage's result sends it on.
#
# ## Go on from there
#
# Some countries got stuck in the second stage. (`operations()` has the items in their order; `for item in items` gives them as they finish.)

# %%
pairs = zip(countries, items.operations(), strict=True)
stuck = {country: item for country, item in pairs if item.status == "FAILED"}
for item in stuck.values():
    print(item.stage, "-", item.exception())

# %% [markdown]
# We look at them: sadly right. Now `retry` goes on *from the stage that failed*: nothing is loaded again.

# %%
for country in stuck:
    (checked / country).touch()
print([item.retry().result(timeout=30) for item in stuck.values()])
print("loaded:", app.shared().counter("loaded").value, "countries:", len(countries) + 1)

# %% [markdown]
# ## A workflow
#
# A pipeline is a straight road. Where what comes next depends on what came out, write a **workflow**: an ordinary `async def` with `if`, loops and
# `try`, in which each awaited step runs on some worker. Here: which polynomial fits a country's history? Try a higher degree as long as it
# predicts left-out years better.

# %%
from blazing_nb import gather


@app.step
def miss(table, degree):
    """Mean error, in years of life, where each point is predicted from all the others."""
    time.sleep(0.01)
    years, ages = np.array(table["years"]) / 10 - 198, np.array(table["ages"])
    left_out = [np.polyfit(np.delete(years, i), np.delete(ages, i), degree) for i in range(len(years))]
    return float(np.mean([abs(np.polyval(fit, x) - y) for fit, x, y in zip(left_out, years, ages, strict=True)]))


@app.workflow
async def best_degree(country):
    print("the body starts")
    table = await load(country)
    line, parabola = await gather(miss(table, 1), miss(table, 2))  # two at once
    errors = [line, parabola]
    while errors[-1] < errors[-2] and len(errors) < 8:  # decided by what came out
        errors.append(await miss(table, len(errors) + 1))
    return int(np.argmin(errors)) + 1


china = best_degree.enqueue("China")
china.result(timeout=30)

# %% [markdown]
# Here is the surprise: how often did the body start?

# %%
china.logs().splitlines()

# %% [markdown]
# A waiting workflow occupies no worker, no thread, no memory. When what it awaits is there, the body runs *again from its first line*, on any
# worker, and every `await` that was answered before is answered from its history. So prints repeat, and steps do not:

# %%
some = sorted({*countries[::4], "China", "Norway"})
found = dict(zip(some, best_degree.map(some).results(timeout=100), strict=True))
calls = {step.step: step for step in app.snapshot().steps}["miss"]
print("calls of miss:", calls.enqueued, "- each final once:", calls.succeeded)

# %%
import pandas as pd

table = pd.Series(found).value_counts().sort_index()
bars = "".join(
    f'<text x="0" y="{18 + 24 * i}" font-size="13" fill="currentColor">degree {degree}</text>'
    f'<rect x="80" y="{6 + 24 * i}" width="{20 * n}" height="16" fill="#0072b2"/>'
    f'<text x="{86 + 20 * n}" y="{18 + 24 * i}" font-size="13" fill="currentColor">{n} countries</text>'
    for i, (degree, n) in enumerate(table.items())
)
label = "countries by the degree of the polynomial that predicts best"
HTML(f'<svg viewBox="0 0 680 {24 * len(table) + 8}" width="680" role="img" aria-label="{label}">{bars}</svg>')

# %% [markdown]
# ## Nobody there
#
# `asyncio.sleep` in a workflow is a timer in the store. Nothing has to run while it runs. We prove it by leaving nothing that could: all workers
# stop while it sleeps.

# %%
import asyncio


@app.workflow
async def reminder(country):
    before = await load(country)
    await asyncio.sleep(0.8)  # days are fine too
    again = await best_degree(country)  # a workflow can await another one
    return f"{country}: degree {again} for {len(before['years'])} points"


asleep = reminder.enqueue("Norway")
while asleep.status != "SCHEDULED" or len(asleep.history()) < 3:
    time.sleep(0.01)
app.workers.stop()
time.sleep(1)
print("workers:", len(app.workers), "- the workflow:", asleep.status)

# %% [markdown]
# New workers, of which none has ever heard of Norway, find the timer over and go on behind the `sleep`:

# %%
app.workers.start(2)
asleep.result(timeout=30)

# %% [markdown]
# Check what was taught, and stop the workers and the server.

# %%
assert len(items) == 142 and stuck and {item.stage for item in stuck.values()} == {"trend"}
assert all("years a decade" in item.result() for item in items.operations() if item not in stuck.values())
assert china.logs().count("the body starts") > 1 and china.result() == found["China"]
assert calls.enqueued == calls.succeeded >= 3 * len(some)
assert asleep.result() == f"Norway: degree {found['Norway']} for 12 points"
folder.cleanup()
# %blazing down
