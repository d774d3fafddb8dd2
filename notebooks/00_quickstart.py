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
# # Quickstart: from a cell to a result
#
# *For anyone who works in Jupyter and knows a little pandas. Five minutes.*
#
# You will write a function in a cell, run it on every file of Python's standard library in two worker processes, watch them work, restart
# the kernel without losing anything, and get a table. Nothing needs to be installed beside the package. Run the cells from top to bottom.

# %%
# %load_ext blazing_nb
# %blazing up --app quickstart --workers 2

# %% [markdown]
# `up` found a server on this machine, or started one, and started two **workers**: processes that run your functions. It made the variable
# `app`. Running the cell again changes nothing.
#
# A **step** is a function that workers run. It is an ordinary function with one line above it:

# %%
import ast
import tokenize
from pathlib import Path


@app.step
def measure(path):
    """Lines, functions and classes of one source file; some test data is broken on purpose."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        return {"file": Path(path).name, "broken": type(error).__name__}
    nodes = list(ast.walk(tree))
    return {
        "file": Path(path).name,
        "lines": text.count("\n"),
        "functions": sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in nodes),
        "classes": sum(isinstance(n, ast.ClassDef) for n in nodes),
    }


measure.enqueue(ast.__file__).result(timeout=60)

# %% [markdown]
# `enqueue` sent one call to the workers and gave an **operation** at once; `result` waited for what the function returned.
# (`measure(ast.__file__)` would run it here, as ever.)
#
# ## One call for each of many
#
# `map` sends one call for each file and gives a **batch**. The view moves while the workers get through them.

# %%
import sysconfig

library = Path(sysconfig.get_paths()["stdlib"])
files = sorted(str(path) for path in library.rglob("*.py") if "site-packages" not in path.parts)

# view = %blazing segments
view.show()
batch = measure.map(files, name="library", resume=True)
batch.wait(timeout=120)
view.close()

# %% [markdown]
# The view was closed: what you see is a plain picture now, and stays in the saved notebook. `resume=True` lets you run the cell twice: what
# was sent under the name `library` is not sent again.
#
# ## A restart loses nothing
#
# A batch with a name is kept by the server, and so are its results. Try it: choose *Kernel, Restart Kernel*, and go on **from this cell**. It
# and all that follow need nothing from above.

# %%
# %reload_ext blazing_nb
# %blazing up --app quickstart
batch = app.attach("library")
found = batch.results(timeout=120)
batch

# %% [markdown]
# Results are ordinary values:

# %%
import pandas as pd

table = pd.DataFrame(found).convert_dtypes()
table.sort_values("lines", ascending=False).head()

# %% [markdown]
# And how each operation went is a table, too:

# %%
batch.to_frame()[["status", "attempt", "wait_s", "run_s"]].tail(3)

# %% [markdown]
# ## In which order?
#
# `results()`, `batch[0]` and `batch[2:5]` keep the order of the items. But `for operation in batch` takes the operations **as they finish**,
# so that you need not wait for the slowest one:

# %%
import time


@app.step
def nap(seconds):
    time.sleep(seconds)
    return seconds


naps = nap.map([0.4, 0.0, 0.2])
as_finished = [operation.result() for operation in naps]
in_order = [operation.result() for operation in naps[:2]]
naps.results(), in_order, as_finished

# %% [markdown]
# ## When a step fails
#
# The exception arrives here as itself. Its cause is the traceback of the worker, so that you see the line that failed over there.


# %%
@app.step
def divide(x, y):
    return x / y


try:
    divide.enqueue(1, 0).result(timeout=60)
except ZeroDivisionError as error:
    caught = error
    print(error.__cause__)

# %% [markdown]
# What a step prints is kept with its operation:


# %%
@app.step
def greet(name):
    print("Hello", name)


greeting = greet.enqueue("world")
greeting.wait(timeout=60)
greeting.logs()

# %% [markdown]
# ## The end
#
# Check what was taught, and stop the workers and the server. What is stored stays on disk: `up` finds it again.

# %%
assert len(found) == len(batch) > 1000 and batch.failed_count == 0
assert int(table["lines"].sum()) > 100_000
assert in_order == naps.results()[:2] == [0.4, 0.0] and sorted(as_finished) == [0.0, 0.2, 0.4]
assert type(caught) is ZeroDivisionError and "in divide" in str(caught.__cause__)
assert greeting.logs() == "Hello world\n"
assert app.snapshot().waiting == 0

# %blazing down

# %% [markdown]
# **Where next?** [Many parts, one result](03_fan_out_fan_in.ipynb), [cells that outlive the kernel](09_durable_cells.ipynb),
# [failures and retries](05_failures_retries_dead_letters.ipynb), [the dashboard](07_dashboard.ipynb).
