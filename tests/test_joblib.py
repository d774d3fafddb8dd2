"""The joblib backend, by joblib itself and by a grid search of scikit-learn."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import blazing_nb.joblib  # registers the backend
from blazing_nb import Blazing, Worker, errors
from blazing_nb.joblib import BlazingBackend
from tests.condition import until


@pytest.fixture
def worker(url: str, app: Blazing) -> Iterator[Worker]:
    made = Worker(app.app_id, url=url, processes=2).start()
    yield made
    made.close()


def square(x: int) -> int:
    return x * x


def ratio(x: int) -> float:
    return 1 / x


def total(data: np.ndarray, x: int) -> float:
    assert data.flags.writeable
    return float(data.sum()) + x


def nested(x: int) -> tuple[list[int], str]:
    threads = Parallel(n_jobs=2)(delayed(threading.get_ident)() for _ in range(2))
    assert all(isinstance(thread, int) for thread in threads)
    return Parallel(n_jobs=2)(delayed(square)(x + i) for i in range(3)), threading.current_thread().name


def test_results_come_in_order_and_as_a_generator(app: Blazing, worker: Worker) -> None:
    with parallel_config("blazing", app=app, lane="thread"):
        assert Parallel()(delayed(square)(x) for x in range(50)) == [x * x for x in range(50)]
        assert Parallel(n_jobs=2)(delayed(lambda x, y=1: x + y)(x, y=2) for x in range(3)) == [2, 3, 4]
        ordered = Parallel(return_as="generator")(delayed(square)(x) for x in range(5))
        assert list(ordered) == [0, 1, 4, 9, 16]
        freely = Parallel(return_as="generator_unordered")(delayed(square)(x) for x in range(5))
        assert sorted(freely) == [0, 1, 4, 9, 16]
        assert Parallel()(delayed(square)(x) for x in ()) == []


def test_short_calls_travel_in_batches(app: Blazing, worker: Worker) -> None:
    with parallel_config("blazing", app=app, lane="thread"):
        assert Parallel()(delayed(square)(x) for x in range(5000)) == [x * x for x in range(5000)]
    [step] = app.snapshot().steps
    assert step.step == "joblib"
    assert step.enqueued < 1000


def test_an_exception_ends_the_call_and_cancels_what_waits(app: Blazing, worker: Worker) -> None:
    with parallel_config("blazing", app=app, lane="thread"):
        with pytest.raises(ZeroDivisionError) as caught:
            Parallel(pre_dispatch="all")(delayed(ratio)(x) for x in (1, 0, *[2] * 50))
        assert "return 1 / x" in str(caught.value.__cause__)
        assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]
    until(lambda: app.snapshot().waiting == 0)


def test_a_time_out_of_joblib_ends_the_call(app: Blazing) -> None:
    with parallel_config("blazing", app=app, lane="thread"), pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, timeout=0.2)(delayed(square)(x) for x in range(3))
    until(lambda: app.snapshot().waiting == 0)


def test_large_arrays_are_stored_once_and_arrive_as_arrays(app: Blazing, worker: Worker) -> None:
    data = np.ones(400_000)
    sent: list[int] = []
    put = app.put
    app.put = lambda value, **options: sent.append(1) or put(value, **options)  # type: ignore[method-assign]
    with parallel_config("blazing", app=app, lane="thread"):
        found = Parallel(n_jobs=4)(delayed(total)(data, x) for x in range(20))
        assert found == [400_000.0 + x for x in range(20)]
        assert len(sent) == 1
        data[0] = 2.0  # another call sees what changed between them
        assert Parallel(n_jobs=4)(delayed(total)(data, x) for x in (0, 1)) == [400_001.0, 400_002.0]


def test_a_large_argument_that_is_no_array_arrives_too(app: Blazing, worker: Worker) -> None:
    with parallel_config("blazing", app=app, lane="thread"):
        assert Parallel()(delayed(len)(bytes(2_000_000)) for _ in range(2)) == [2_000_000] * 2


def test_large_results_arrive(app: Blazing, worker: Worker) -> None:
    with parallel_config("blazing", app=app, lane="thread"):
        found = Parallel(n_jobs=2)(delayed(np.full)(200_000, x) for x in range(3))
    assert [(len(part), part[0]) for part in found] == [(200_000, 0), (200_000, 1), (200_000, 2)]


def test_nested_parallelism_stays_in_its_worker(app: Blazing, url: str) -> None:
    worker = Worker(app.app_id, url=url, threads=1).start()  # would wait for itself otherwise
    with parallel_config("blazing", app=app, lane="thread"):
        for x, (squares, _) in enumerate(Parallel(timeout=20)(delayed(nested)(x) for x in range(4))):
            assert squares == [x * x, (x + 1) ** 2, (x + 2) ** 2]
    worker.close()


def test_the_number_of_jobs_is_the_slots_of_the_workers(app: Blazing, worker: Worker) -> None:
    backend = BlazingBackend(app)
    assert [backend.effective_n_jobs(n) for n in (None, -1, -2, 3, -99)] == [2, 2, 1, 3, 1]
    assert BlazingBackend(app, lane="thread").effective_n_jobs(-1) == 8
    with pytest.raises(errors.UsageError):
        backend.effective_n_jobs(0)


def test_a_backend_without_workers_or_an_app_says_what_to_do(app: Blazing) -> None:
    with pytest.raises(errors.WorkersNotReady, match="start"), parallel_config("blazing", app=app):
        Parallel()(delayed(square)(x) for x in range(3))
    with pytest.raises(errors.UsageError, match="app=app"):
        parallel_config("blazing")
    assert blazing_nb.joblib.__doc__ is not None


@pytest.mark.slow
def test_a_grid_search_finds_what_it_finds_without_us(app: Blazing, worker: Worker) -> None:
    features, labels = load_digits(n_class=4, return_X_y=True)
    features = np.tile(features, (1, 3))  # 1.1 MB: above what an operation carries

    def search() -> Any:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        grid = {"logisticregression__C": [0.001, 0.1]}
        return GridSearchCV(model, grid, cv=3, error_score="raise").fit(features, labels)

    here = search()
    with parallel_config("blazing", app=app):
        there = search()
    assert there.best_params_ == here.best_params_
    assert there.cv_results_["mean_test_score"] == pytest.approx(here.cv_results_["mean_test_score"])
    [step] = app.snapshot().steps
    assert (step.step, step.succeeded, step.failed) == ("joblib-process", step.enqueued, 0)
