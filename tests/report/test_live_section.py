"""The report of a run shows the latest live readout of its store, and nothing about it where there is none."""

from collections.abc import Callable
from pathlib import Path

from drift.live.page import write_live
from drift.live.readout import read_live
from drift.report import write_report
from live_stores import Deployment, days

MakeRun = Callable[..., Path]


def test_the_readout_of_the_runs_store_is_a_section(make_run: MakeRun):
    run = make_run()
    before = write_report(run).read_text("utf-8")
    deployment = Deployment(run / "store" / "logs")
    deployment.days("old", days(1, 5), 40, 32)
    deployment.days("new", days(1, 5), 40, 4)
    store = deployment.store()
    write_live(read_live(store, against="old"), store.path, None)
    page = write_report(run).read_text("utf-8")
    assert 'id="live"' not in before
    assert page.count('id="live"') == page.count('href="#live"') == 1
    assert "Users are less dissatisfied with new than with old" in page
    assert page.count("<svg") == before.count("<svg") + 2
    assert '<div class="scroll">' not in page.split('id="live"')[1].split("</section>")[0]
