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
# # Code that you already have: executors, scikit-learn, pandas
#
# *For anyone whose code takes a `concurrent.futures.Executor`, an `n_jobs=`, or maps a function over a frame. Ten minutes.*
#
# You will send functions without decorating them, run a grid search of scikit-learn on the workers, and map a step over a pandas
# series, whose work survives this kernel. The data ship with plotly (`pip install scikit-learn plotly`); nothing is downloaded.

# %%
# %load_ext blazing_nb
# %blazing up --app ecosystem --workers 2

# %% [markdown]
# ## An executor
#
# `app.executor()` is what `ThreadPoolExecutor` is, on the workers. Any callable that can be pickled can be submitted: it travels by
# value where it lives in this notebook, by reference where a worker can import it, and always under the app's signature.

# %%
from concurrent.futures import as_completed

factor = 3


def scale(x):
    return x * factor


executor = app.executor()
futures = {executor.submit(scale, n): n for n in range(6)}
{futures[future]: future.result() for future in as_completed(futures, timeout=30)}

# %% [markdown]
# `map` keeps the order of its arguments, whoever finishes first; `chunksize` says how many calls one operation holds.

# %%
words = "any callable that can be pickled can be submitted".split()
shouted = list(executor.map(str.upper, words, chunksize=3))
shouted

# %% [markdown]
# An exception arrives as itself, with the worker's traceback as its cause. A future that is pending can be cancelled, and then never
# runs; one that a worker has claimed is left alone, as futures do. `future.operation` is the durable handle behind it.

# %%
failing = executor.submit(int, "seven")
error = failing.exception(timeout=30)
print(type(error).__name__, "-", error)
print(str(error.__cause__).strip().splitlines()[0])
failing.operation.status

# %% [markdown]
# From a coroutine, `app.run` is like `asyncio.to_thread`: the kernel stays free while a worker works.

# %%
import asyncio

sums = await asyncio.gather(*(app.run(sum, range(n)) for n in (10, 100, 1000)))
executor.shutdown()
sums

# %% [markdown]
# ## scikit-learn
#
# Importing `blazing_nb.joblib` registers a backend for joblib. Inside of `parallel_config("blazing", app=app)` everything that has an
# `n_jobs` runs on the workers, in their processes: here a search for the gradient boosting that best guesses life expectancy from
# wealth, population and year. Arrays that all fits share are stored once and passed by reference.

# %%
import numpy as np
import plotly.data
from joblib import parallel_config
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import GridSearchCV

import blazing_nb.joblib

gapminder = plotly.data.gapminder()
features = np.log1p(gapminder[["gdpPercap", "pop", "year"]].to_numpy())
search = GridSearchCV(
    GradientBoostingRegressor(n_estimators=40, random_state=7),
    {"max_depth": [1, 2, 3], "learning_rate": [0.05, 0.1, 0.3]},
    cv=3,
)
with parallel_config("blazing", app=app):
    search.fit(features, gapminder["lifeExp"])
search.best_params_

# %% [markdown]
# Each operation held a batch of fits; where calls are short, joblib measures them and makes the batches larger.

# %%
done = app.operations("SUCCEEDED", step="joblib-process", limit=1000)
print(f"{search.n_splits_ * len(search.cv_results_['params'])} fits and 1 refit, in {len(done)} operations")

# %% [markdown]
# ## pandas
#
# Importing `blazing_nb.pandas` gives series and frames `.blazing`. The step below says how many years of life a country gained in a
# decade, with an interval from resampling: a little work for each of 142 countries.

# %%
import blazing_nb.pandas


@app.step(lane="process")
def gained(ages):
    """Years of life gained in ten years: the slope, and the middle 90 % of the slopes of resampled points."""
    rng, years = np.random.default_rng(7), np.arange(len(ages)) * 5.0
    slopes = []
    for _ in range(250):
        drawn = rng.integers(0, len(ages), len(ages))
        slopes.append(10 * np.polyfit(years[drawn], np.asarray(ages)[drawn], 1)[0])
    low, high = np.quantile(slopes, [0.05, 0.95])
    return {"slope": float(10 * np.polyfit(years, ages, 1)[0]), "low": float(low), "high": float(high)}


ages = gapminder.groupby("country")["lifeExp"].apply(list)
slopes = ages.blazing.map(gained, name="slopes", resume=True, timeout=100)
slopes.head(3)

# %% [markdown]
# The values stand under the labels of the series, in its order. The batch has a name: after a restart of the kernel, the same cell
# sends nothing that is there already (`resume=True`), and `app.attach("slopes")` gives its handle in any kernel. Its frame says who did
# what, and when:

# %%
from IPython.display import HTML

batch = app.attach("slopes")
frame = batch.to_frame()


def timeline(frame):
    """One row a process, one bar an operation, coloured by worker."""
    frame = frame.sort_values("started_at")
    begin = (frame.started_at - frame.started_at.min()).dt.total_seconds()
    width, colors, rows, bars = 680 / (begin + frame.run_s).max(), ("#0072b2", "#e69f00", "#009e73", "#cc79a7"), [], []
    workers = sorted(frame.worker.unique())
    for start, run, worker in zip(begin, frame.run_s, frame.worker, strict=True):
        row = next((i for i, (owner, end) in enumerate(rows) if owner == worker and end <= start), len(rows))
        rows[row : row + 1] = [(worker, start + run)]
        shape = f'x="{start * width:.1f}" y="{4 + row * 22}" width="{max(1, run * width - 0.5):.1f}" height="18"'
        bars.append(f'<rect {shape} rx="2" fill="{colors[workers.index(worker) % 4]}"/>')
    height = 26 + 22 * len(rows)
    axis = f'<text x="0" y="{height - 4}" font-size="12" fill="currentColor">0 s</text>'
    axis += f'<text x="680" y="{height - 4}" font-size="12" text-anchor="end" fill="currentColor">{680 / width:.1f} s</text>'
    label = f"{len(frame)} operations on {len(rows)} processes of {len(workers)} workers"
    return HTML(
        f'<svg viewBox="0 0 680 {height}" width="680" role="img" aria-label="{label}">{"".join(bars)}{axis}</svg><p>{label}</p>'
    )


timeline(frame)

# %%
import pandas as pd

table = pd.DataFrame(slopes.tolist(), index=slopes.index).sort_values("slope")
pd.concat([table.head(3), table.tail(3)]).round(1)

# %% [markdown]
# Rows of a frame go as dicts; `errors="collect"` leaves exceptions in their places instead of raising the first one.


# %%
@app.step
def density(row):
    return row["pop"] / {"Malta": 316, "Singapore": 728}[row["country"]]


islands = gapminder[(gapminder.year == 2007) & gapminder.country.isin(["Malta", "Singapore", "Iceland"])]
densities = islands.set_index("country", drop=False)[["country", "pop"]].blazing.map(
    density, errors="collect", timeout=30
)
densities

# %% [markdown]
# ## Progress
#
# Waits of more than two seconds show a bar by themselves. `batch.progress()` iterates with one, and so does `tqdm(batch)`; as an
# output it says how far the batch is. `progress=False` keeps a wait silent.

# %%
batch.progress()

# %% [markdown]
# Check what was taught, and stop the workers and the server.

# %%
assert {futures[future]: future.result() for future in futures} == {n: 3 * n for n in range(6)}
assert shouted == [word.upper() for word in words]
assert isinstance(error, ValueError) and "Traceback" in str(error.__cause__)
assert sums == [sum(range(n)) for n in (10, 100, 1000)]
assert search.best_score_ > 0.4 and 1 < len(done) <= 28
assert slopes.index.equals(ages.index) and (batch.done_count, batch.failed_count) == (142, 0)
assert (table.low <= table.high).all() and table.slope.mean() > 1
assert isinstance(densities["Iceland"], KeyError) and round(densities["Singapore"]) == 6254

# %blazing down
