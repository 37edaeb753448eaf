from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.errors import NotEnoughData, SourceUnreadable
from pipeline.sections import Source, Sql
from pipeline.stages.ingest import ingest
from tests.conftest import at, customers

CUTOFF = "2025-07-01"


def snapshot_of(record, settings):
    return pq.read_table(settings.home / record.snapshot).to_pandas()


def test_a_snapshot_holds_nothing_that_happened_or_arrived_after_the_cutoff(write_model, settings):
    model = write_model(customers())
    record = ingest(model, at(model, CUTOFF), settings)
    rows = snapshot_of(record, settings)
    cutoff = pd.Timestamp(CUTOFF, tz="UTC")
    assert (rows.event_time < cutoff).all()
    assert (rows.arrived_at <= cutoff).all()
    assert record.rows == len(rows)
    assert record.later_rows == 1200 - len(rows)


def test_a_label_younger_than_its_maturity_is_not_known(write_model, settings):
    model = write_model(customers())
    record = ingest(model, at(model, CUTOFF), settings)
    rows = snapshot_of(record, settings)
    young = rows.event_time + pd.Timedelta(days=30) > pd.Timestamp(CUTOFF, tz="UTC")
    assert rows.churned[young].isna().all()
    assert rows.churned[~young].notna().all()
    assert record.unmatured_rows == young.sum()


def test_scrambling_every_row_that_arrived_later_changes_no_byte(write_model, settings):
    frame = customers()
    first = ingest(write_model(frame), at("churn", CUTOFF), settings)
    later = frame.arrived_at > pd.Timestamp(CUTOFF, tz="UTC")
    rng = np.random.default_rng(0)
    frame.loc[later, "charge"] = rng.normal(0, 1e6, later.sum())
    frame.loc[later, "plan"] = "unheard of"
    frame.loc[later, "churned"] = 1 - frame.loc[later, "churned"]
    shuffled = pd.concat([frame[later].sample(frac=1, random_state=1), frame[~later]], ignore_index=True)
    second = ingest(write_model(shuffled), at("churn", CUTOFF), settings)
    assert second.digest == first.digest


def test_a_late_correction_replaces_the_row_once_it_has_arrived(write_model, settings):
    frame = customers(100)
    fixed = frame.iloc[[0]].assign(charge=999.0, arrived_at=pd.Timestamp("2025-03-01", tz="UTC"))
    model = write_model(pd.concat([fixed, frame]))
    before = ingest(model, at(model, "2025-02-28"), settings)
    after = ingest(model, at(model, "2025-03-02"), settings)
    key = frame.customer[0]
    assert snapshot_of(before, settings).set_index("customer").charge[key] == frame.charge[0]
    assert snapshot_of(after, settings).set_index("customer").charge[key] == 999.0
    assert after.superseded_rows == 1


def test_an_unchanged_source_is_read_again_only_when_something_new_became_known(write_model, settings):
    model = write_model(customers())
    first = ingest(model, at(model, "2026-06-01"), settings)
    assert first.unchanged_until is None
    assert ingest(model, at(model, "2026-07-01"), settings) == first
    early = ingest(model, at(model, CUTOFF), settings)
    assert early.unchanged_until > at(model, CUTOFF).cutoff.isoformat()
    assert ingest(model, at(model, "2025-08-01"), settings).rows > early.rows


def test_rows_whose_time_cannot_be_read_are_kept_apart_and_counted(write_model, settings):
    frame = customers(300).astype({"event_time": str, "arrived_at": str})
    frame.loc[3, "event_time"] = "the 31st of February"
    frame.loc[4, "event_time"] = None
    model = write_model(frame, suffix="csv")
    record = ingest(model, at(model), settings)
    assert record.rejected_reasons == {"event_time: empty": 1, "event_time: not an instant": 1}
    rejected = pq.read_table(settings.home / record.rejected).to_pandas()
    assert sorted(rejected.customer) == ["C00003", "C00004"]
    assert record.rows + record.rejected_rows == 300


def test_a_second_copy_of_a_row_is_rejected_as_a_duplicate(write_model, settings):
    frame = customers(100)
    model = write_model(pd.concat([frame, frame.iloc[[5, 6]]]))
    record = ingest(model, at(model), settings)
    assert record.rejected_reasons == {"duplicate customer at event_time": 2}
    assert record.rows == 100


def test_a_cutoff_before_all_data_says_when_the_first_row_became_known(write_model, settings):
    model = write_model(customers())
    with pytest.raises(NotEnoughData, match=r"was known at 2020-01-01.*earliest became known at 2025-01-0"):
        ingest(model, at(model, "2020-01-01"), settings)
    assert not list((settings.store / "ingest").glob("[!.]*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"customer,event_time,arrived_at,tenure,charge,plan,churned\n", "has a header but no rows"),
        (b"customer;event_time;arrived_at;churned\nC1;2025-01-01;2025-01-01;0\n", r"set source.separator to ';'"),
        ("customer,event_time,arrived_at,café,churned\n".encode("latin-1"), "set source.encoding"),
        (
            "customer,event_time,arrived_at,plan,churned\nC1,2025-01-01,2025-01-01,é,0\n".encode("latin-1"),
            "set source.encoding",
        ),
        (b"customer,event_time,arrived_at,plan,plan,churned\nC,2025-01-01,2025-01-01,a,b,0\n", "'plan' more than once"),
        (b"customer,event_time,arrived_at,churn\nC1,2025-01-01,2025-01-01,0\n", "'churned'; did you mean 'churn'"),
    ],
)  # fmt: skip
def test_an_unreadable_table_says_what_is_wrong_and_what_to_do(content, message, write_model, settings, tmp_path):
    model = write_model(customers(10), suffix="csv")
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(SourceUnreadable, match=message):
        ingest(model, at(model), settings)


def test_a_missing_file_is_named(write_model, settings, tmp_path):
    model = write_model(customers(10))
    (tmp_path / "table.parquet").unlink()
    with pytest.raises(SourceUnreadable, match=r"table\.parquet': no such file"):
        ingest(model, at(model), settings)


def test_lines_with_too_many_fields_are_counted_not_dropped(write_model, settings, tmp_path):
    model = write_model(customers(50).astype(str), suffix="csv")
    path = tmp_path / "table.csv"
    path.write_text(path.read_text() + "a,b,c,d,e,f,g,h,i,j\n")
    record = ingest(model, at(model), settings)
    assert record.rejected_reasons == {"line does not split into the columns": 1}


def test_a_folder_of_daily_files_is_one_table_even_where_a_column_is_new(write_model, settings, tmp_path):
    frame = customers(200)
    folder = tmp_path / "daily"
    folder.mkdir()
    frame[:100].drop(columns="plan").to_parquet(folder / "1.parquet")
    frame[100:].to_parquet(folder / "2.parquet")
    model = write_model(frame)
    model = model.model_copy(update={"source": model.source.model_copy(update={"path": str(folder)})})
    rows = snapshot_of(ingest(model, at(model), settings), settings)
    assert rows.plan.isna().sum() == 100


def test_a_table_behind_sql_gives_the_same_snapshot_as_its_file(write_model, settings, tmp_path, monkeypatch):
    import sqlalchemy as sa

    frame = customers(300).astype({"event_time": str, "arrived_at": str})
    from_file = write_model(frame, suffix="csv")
    url = f"sqlite:///{tmp_path}/warehouse.db"
    engine = sa.create_engine(url)
    frame.to_sql("events", engine, index=False)
    engine.dispose()
    monkeypatch.setenv("WAREHOUSE_URL", url)
    query = Source(sql=Sql(url_variable="WAREHOUSE_URL", query="SELECT * FROM events"))
    from_sql = from_file.model_copy(update={"source": query})
    a = snapshot_of(ingest(from_file, at(from_file), settings), settings)
    b = snapshot_of(ingest(from_sql, at(from_sql), settings), settings)
    assert a.charge.astype(float).tolist() == b.charge.tolist()
    assert a.customer.tolist() == b.customer.tolist()
