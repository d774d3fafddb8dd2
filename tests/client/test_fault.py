"""The fault lab on an embedded server of the test's own, with its own workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from blazing_nb import Blazing, errors
from blazing_nb.client.fault import STEP, Experiment
from blazing_nb.notebook.lab import Lab


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "pause", "flood", "restart"])
def test_the_promises_hold_through_a_real_fault(
    fault: str, fresh_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Blazing("lab") as app:
        app.workers.start(2, lease=1.0)
        lab = Lab(Experiment(app, fault, 200)).watch()
        reading = lab.experiment.reading
        assert lab.holds
        assert (reading.lost, reading.twice, reading.live) == (0, 0, 0)
        assert reading.finished == reading.enqueued == (4200 if fault == "flood" else 200)
        if fault in ("kill", "pause"):
            assert reading.again > 0
        done = [what.split()[0] for _, what in lab.experiment.events]
        assert {"kill": "killed", "pause": "stopped", "flood": "node", "restart": "started"}[fault] in done
        assert "lost 0, committed twice 0" in str(lab)
        assert "✓ holds" in lab._repr_html_()
        assert "of 200 final" in capfd.readouterr().err or fault == "flood"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["partition", "slow", "drop", "storm"])
def test_the_promises_hold_on_a_network_that_breaks(fault: str, fresh_home: Path) -> None:
    with Blazing("lab") as app:
        app.workers.start(1, lease=1.0)
        lab = Lab(Experiment(app, fault, 100, seed=3)).watch()
        reading, events = lab.experiment.reading, str(lab)
        assert lab.holds
        assert (reading.lost, reading.twice, reading.live) == (0, 0, 0)
        assert reading.finished == reading.enqueued == 200
        said = {"partition": "the network is whole again", "slow": "a round trip", "drop": "forgot", "storm": "seed 3"}
        assert said[fault] in events
        if fault == "partition":
            assert reading.again > 0


def test_the_lab_refuses_what_is_not_its_own(url: str, app_id: str) -> None:
    with Blazing(app_id, url=url) as app, pytest.raises(errors.UsageError, match="embedded server only"):
        Experiment(app, "kill")


@pytest.mark.slow
def test_the_lab_refuses_where_work_is_under_way_and_counts_what_is_missing(fresh_home: Path) -> None:
    with Blazing("busy") as app:
        operation = app.step(len, name="measure").enqueue("abc")
        with pytest.raises(errors.UsageError, match="1 operations under way"):
            Experiment(app, "kill")
        operation.cancel()
        with pytest.raises(errors.UsageError, match="kill, pause, flood, restart, partition, slow, drop, storm"):
            Experiment(app, "fire")
        experiment = Experiment(app, "flood", 10)
        # An operation that vanishes behind the scripts' back is seen.
        batch = app.step(len, name=STEP).map(["a", "b", "c"])
        segment = f"{app.store.keys.prefix}seg:{batch[1].op.segment}"
        app.store.connection().call("XDEL", segment, batch[1].op.entry)
        from blazing_nb.client.fault import Step

        experiment._read(Step(STEP))
        assert (experiment.reading.lost, experiment.reading.holds) == (1, False)
