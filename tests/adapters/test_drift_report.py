"""The drift report: which feature, how, since when, how much it matters; and safe, whatever columns are called."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pipeline.adapters.champion_reference import champion_as_of
from pipeline.adapters.drift_pictures import Daily, NamePicture, NumberPicture, picture, strip
from pipeline.adapters.drift_report import drift_report
from pipeline.adapters.watch_store import WatchStore
from pipeline.config import override, parse_model
from pipeline.core.alarms import Alarm, AlarmState, Finding
from pipeline.core.drift_bins import make_bins
from pipeline.core.drift_count import sketch_frame
from pipeline.core.drift_test import ColumnDrift, WindowDrift
from pipeline.core.faults import Fault
from pipeline.core.schema_events import SchemaEvent
from pipeline.settings import load_settings
from pipeline.stages import run_stage
from tests.conftest import MODEL, at, customers, turn

NASTY = 'charge <b onclick="x()">&'
DRIFTED = date(2025, 4, 5)
"""From here on the charge is higher."""
CUTOFF, LATER = "2025-04-01", "2025-04-09"
LAST = date(2025, 4, 8)


def changed_world() -> pd.DataFrame:
    """A hundred rows a day; from DRIFTED on higher charges, and a plan that was never seen."""
    frame = customers(rows=10_000, days=100).rename(columns={"charge": NASTY})
    late = frame["arrived_at"] >= pd.Timestamp(DRIFTED, tz="UTC")
    rng = np.random.default_rng(0)
    plan = np.where(late & (rng.random(len(frame)) < 0.1), "<script>gold</script>", frame["plan"])
    return frame.assign(plan=plan, **{NASTY: frame[NASTY] + 30 * late})


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A champion that was watched for eight days, by the stage that writes the report."""
    root = tmp_path_factory.mktemp("watched")
    settings = load_settings({"EVERGREEN_HOME": str(root / "home"), "EVERGREEN_MODELS": str(root / "models")})
    changed_world().to_parquet(root / "table.parquet")
    text = MODEL.format(path=root / "table.parquet").replace("known_after_days: 30", "known_after_days: 2")
    model = override(parse_model(text, "churn", "churn.yaml"), {
        "monitoring.min_rows": 50, "monitoring.windows_days": [1, 3], "gate.search_slices": False,
    })  # fmt: skip
    turn(model, settings, CUTOFF)
    record = run_stage("detect_drift", model, at(model, LATER), settings, None)
    champion = champion_as_of(model, at(model, LATER).cutoff, settings)
    return model, settings, record, champion


@pytest.fixture
def page(watched):
    """Makes the page of a day that showed this."""
    model, settings, record, champion = watched
    with WatchStore(settings.database_url) as store:
        (kept,) = store.days("churn", "drift", LAST, LAST)

    def make(changes: dict[str, object], **overrides: object) -> str:
        body = {**kept.body, "state": AlarmState(date(2025, 4, 12)).to_json(), "findings": [], "events": [],
                "faults": [], "estimated": None, **changes}  # fmt: skip
        return drift_report(replace(record, told=()), replace(kept, body=body), champion, override(model, overrides),
                            settings)  # fmt: skip

    return make


class Reader(HTMLParser):
    """The tags of a page, and its words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def said(page: str) -> str:
    """The verdict in one sentence."""
    return Reader(re.search(r'<p class="said.*?</p>', page, re.S).group()).text


def column(name: str, **changes: object) -> ColumnDrift:
    plain = ColumnDrift(name, "number", 1e-12, 0.4, 0.3, 0.9, 0.0, 0.0, 0.0, "mean 60 -> 80")
    return replace(plain, **changes)


def windows(*columns: ColumnDrift, status: str = "ok", rows: int = 700) -> dict[str, object]:
    """Two windows, of which the longer one shows these columns."""
    quiet = tuple(replace(one, p_value=0.5, psi=0.0) for one in columns)
    found = [WindowDrift(days, rows, 5000, status, 1e-5, columns if days == 3 else quiet) for days in (1, 3)]
    return {"windows": [asdict(one) for one in found], "predictions": []}


def alarm(name: str, level: str = "confirmed", **changes: object) -> Alarm:
    since, last = date(2025, 4, 7), date(2025, 4, 12)
    made = Alarm(
        "column", name, level, since, last, last, (last,), (last,), 0, 7, 0.4, 0.21, 0.5, "mean 60 -> 80", last
    )
    return replace(made, **changes)


def state(*alarms: Alarm) -> dict[str, str]:
    return {"state": AlarmState(date(2025, 4, 12), alarms).to_json()}


def test_the_stage_leaves_a_page_that_says_which_feature_how_since_when_and_how_much(watched):
    _, settings, record, _ = watched
    page = (settings.home / record.report).read_text(encoding="utf-8")
    text = Reader(page).text
    since = next(alarm.since for alarm in record.alarms if NASTY in alarm.subject)
    assert DRIFTED < date.fromisoformat(since) <= date(2025, 4, 7)
    assert NASTY in said(page)
    assert since in said(page)
    assert "roc auc lower by about" in text
    assert "median" in text
    assert "labels tell that, after 2 days" in text


def test_no_name_of_a_column_or_a_category_becomes_markup_and_nothing_is_fetched_from_outside(watched):
    _, settings, record, _ = watched
    page = (settings.home / record.report).read_text(encoding="utf-8")
    assert "<b onclick" not in page
    assert "<script" not in page
    assert "&lt;script&gt;gold" in page
    assert not re.search(r"(src|href)=|url\(|@import|https?:", page)
    assert {"link", "img", "iframe", "script"}.isdisjoint(Reader(page).tags)


def test_the_month_of_days_shows_since_when(watched):
    _, settings, record, _ = watched
    page = (settings.home / record.report).read_text(encoding="utf-8")
    days = re.findall(r"<title>(2025-04-\d\d): psi [\d.]+, (\w[\w ]*)</title>", page)
    states = dict(reversed(days))  # of the first figure: the alarm
    assert states["2025-04-08"] == "material"
    assert states["2025-04-04"] != "material"
    assert "first seen" in page


def test_a_quiet_day_says_that_nothing_changed(page):
    found = page(windows(column("tenure", p_value=0.4, psi=0.0)))
    assert said(found) == "Nothing changed beyond what chance explains."
    assert "no change" in Reader(found).text


def test_a_change_that_does_not_matter_is_told_with_its_reason(page):
    finding = Finding("column", "tenure", "not material", "tenure: not material: psi 0.031 is below 0.1; mean 36 -> 35")
    found = page({**windows(column("tenure", psi=0.031)), "findings": [asdict(finding)]})
    assert said(found) == "Nothing that matters changed: 1 column differs beyond chance, but not by enough."
    assert "not material" in Reader(found).text
    assert "psi 0.031 is below 0.1; mean 36 -> 35" in Reader(found).text


def test_a_column_that_the_model_does_not_use_is_no_action_with_the_reason(page):
    told = "tenure: no action: the model does not use it (importance 0.000); mean 36 -> 50"
    found = page({**windows(column("tenure")), "findings": [asdict(Finding("column", "tenure", "no action", told))]})
    assert "no action" in Reader(found).text
    assert "the model does not use it (importance 0.000)" in Reader(found).text
    assert ">QUIET<" in found


def test_a_suspicion_says_what_makes_it_an_alarm(page):
    found = page({**windows(column("tenure")), **state(alarm("tenure", "suspected", confirmed_on=None))})
    assert "suspected in tenure" in said(found)
    assert "seen on 2 of 3 checked days" in said(found)
    assert "until then nothing is done" in said(found)


def test_two_alarms_are_ordered_by_what_they_cost(page):
    mild, grave = alarm("tenure", impact=0.03), alarm("plan", impact=0.3)
    found = page({**windows(column("tenure"), column("plan", kind="category", shift=None)), **state(mild, grave)})
    assert said(found).startswith("2 alarms stand: plan (since 2025-04-07) and tenure (since 2025-04-07).")
    assert "30.0 % of the model's error" in said(found)
    assert found.index('<td class="name"><b>plan') < found.index('<td class="name"><b>tenure')


def test_broken_data_comes_before_every_alarm_since_no_retraining_mends_it(page):
    fault = {"faults": [asdict(Fault("tenure", "stuck", "stuck at 0 in at least 90% of the rows"))]}
    found = page({**windows(column("tenure")), **state(alarm("tenure")), **fault})
    assert said(found).startswith("The data looks broken: tenure: stuck at 0")
    assert "1 alarm stands" in said(found)


def test_what_only_looks_like_another_unit_but_did_not_change_is_not_called_broken(page):
    fault = {"faults": [asdict(Fault("tenure", "unit", "all of it is 0.4 times what it was"))]}
    assert ">QUIET<" in page({**windows(column("tenure", p_value=0.8)), **fault})


def test_an_error_in_the_form_of_the_data_is_broken_data_and_a_warning_is_not(page):
    event = SchemaEvent("unseen", "plan", "warning", 0.05, "plan: 5.0% of the rows have a value never seen")
    assert ">QUIET<" in page({**windows(column("tenure", p_value=0.8)), "events": [asdict(event)]})
    grave = page({**windows(column("tenure", p_value=0.8)), "events": [asdict(replace(event, severity="error"))]})
    assert ">BROKEN DATA<" in grave


@pytest.mark.parametrize(("status", "badge", "words"), [
    ("insufficient", "INSUFFICIENT", "Too little was seen to judge: 12 rows so far; 50 are needed."),
    ("not calibrated", "NOT CALIBRATED", "cannot be judged: the reference has too few days"),
])  # fmt: skip
def test_a_day_that_cannot_be_judged_says_so_and_is_not_called_quiet(page, status, badge, words):
    shown = windows(*([] if status == "insufficient" else [column("tenure")]), status=status, rows=12)
    found = page(shown)
    assert f">{badge}<" in found
    assert words in said(found)


def test_independent_days_are_named_as_a_limit(page):
    found = page(windows(column("tenure", p_value=0.4)), **{"monitoring.calibration": "independent"})
    assert "more false alarms come than the budget says" in Reader(found).text


def test_a_picture_puts_what_lies_beyond_into_the_outermost_bar():
    rng = np.random.default_rng(0)
    before = pd.DataFrame({"x": rng.normal(0, 1, 4000)})
    bins = make_bins(_table(before), {"x": "number"})
    now = pd.DataFrame({"x": np.append(rng.normal(0, 1, 500), np.full(500, 1e6))})
    drawn = picture("x", sketch_frame(bins, before), sketch_frame(bins, now))
    assert isinstance(drawn, NumberPicture)
    assert drawn.bars[-1].now == max(bar.now for bar in drawn.bars)
    assert drawn.bars[-1].told.endswith("→ 50.2%") or "→ 50" in drawn.bars[-1].told
    assert drawn.ticks[-1].text.startswith("≥ ")
    total = sum(float(bar.told.rsplit(" ", 1)[1].rstrip("%")) for bar in drawn.bars)
    assert total == pytest.approx(100, abs=2)


def test_few_values_missing_values_and_new_names_have_bars_of_their_own():
    before = pd.DataFrame({"flag": [0.0, 1.0] * 100, "plan": ["a", "b"] * 100})
    bins = make_bins(_table(before), {"flag": "number", "plan": "category"})
    now = pd.DataFrame({"flag": [np.nan, 1.0] * 50, "plan": ["a", "new one"] * 50})
    old, new = sketch_frame(bins, before), sketch_frame(bins, now)
    flag, plan = picture("flag", old, new), picture("plan", old, new)
    assert isinstance(flag, NumberPicture)
    assert [tick.text for tick in flag.ticks] == ["0", "1", "missing"]
    assert flag.bars[2].told == "missing: 0.0% → 50.0%"
    assert isinstance(plan, NamePicture)
    assert {line.name: line.shares for line in plan.lines}["new one (new)"] == "0.0% → 50.0%"


def test_a_column_without_a_value_and_a_constant_can_be_drawn():
    before = pd.DataFrame({"gone": np.full(200, np.nan), "same": np.full(200, 7.0), "endless": np.arange(200.0)})
    bins = make_bins(_table(before), dict.fromkeys(before.columns, "number"))
    now = before.assign(same=8.0, endless=np.inf)
    for name in before.columns:
        drawn = picture(name, sketch_frame(bins, before), sketch_frame(bins, now))
        assert isinstance(drawn, NumberPicture)
        assert all(np.isfinite([bar.then, bar.now]).all() for bar in drawn.bars)
    assert [tick.text for tick in picture("same", sketch_frame(bins, before), sketch_frame(bins, now)).ticks] == [
        "< 7", "7", "> 7"
    ]  # fmt: skip


def test_days_that_were_not_checked_stay_empty_in_the_month():
    drawn = strip([Daily(date(2025, 4, 10), 0.3, "material")], date(2025, 4, 12), 0.1, date(2025, 4, 9))
    assert [mark.told for mark in drawn.marks] == ["2025-04-10: psi 0.300, material"]
    assert drawn.since is not None
    assert drawn.since < drawn.marks[0].x
    assert strip([], date(2025, 4, 12), 0.1, None).marks == ()


def _table(frame: pd.DataFrame):
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)
