"""What a run reads from the asset events that started it."""

from __future__ import annotations

import pytest

from dags.events import counted, newest_cutoff
from pipeline.errors import BadConfiguration

DAILY = {"cutoff": "2026-06-01T00:00:00+00:00", "run_kind": "scheduled"}
LATER = {"cutoff": "2026-06-02T02:00:00+02:00", "run_kind": "manual"}
BACKFILLED = {"cutoff": "2026-07-01T00:00:00+00:00", "run_kind": "backfill"}
BY_HAND = {"from_rest_api": True}


def test_of_merged_events_the_newest_counts_whatever_their_order():
    assert newest_cutoff([LATER, DAILY]) == newest_cutoff([DAILY, LATER]) == "2026-06-02T00:00:00+00:00"


def test_events_of_backfills_do_not_count():
    assert counted([BACKFILLED, DAILY, BACKFILLED]) == [DAILY]
    assert counted([BACKFILLED]) == []


def test_an_event_by_hand_counts_and_needs_no_cutoff():
    assert counted([BY_HAND]) == [BY_HAND]
    assert newest_cutoff([BY_HAND]) is None
    assert newest_cutoff([BY_HAND, DAILY]) == DAILY["cutoff"]


def test_a_cutoff_that_is_no_instant_is_refused():
    with pytest.raises(BadConfiguration, match="is not an instant"):
        newest_cutoff([{"cutoff": "yesterday"}])
