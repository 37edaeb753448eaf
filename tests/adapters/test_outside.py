"""The outside world at its worst: a full disk, a data remote that is there and one that is not."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.adapters.store import once
from pipeline.context import RunContext
from pipeline.errors import OutsideFailure
from pipeline.records import Record
from pipeline.stages.ingest import ingest
from tests.conftest import at, customers


@pytest.fixture
def bucket(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="data")
    yield endpoint, client
    server.stop()


def test_a_snapshot_is_pushed_to_the_remote_under_the_digest_of_its_record(bucket, write_model, settings):
    endpoint, client = bucket
    remote = replace(settings, data_remote_url="s3://data/evergreen", data_remote_endpoint_url=endpoint)
    model = write_model(customers(200))
    record = ingest(model, at(model), remote)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="data")["Contents"]]
    assert keys == [f"evergreen/files/md5/{record.digest[:2]}/{record.digest[2:]}"]
    body = client.get_object(Bucket="data", Key=keys[0])["Body"].read()
    assert body == (settings.home / record.snapshot).read_bytes()


def test_a_table_is_read_from_s3_as_from_a_file(bucket, write_model, settings, monkeypatch, tmp_path):
    endpoint, client = bucket
    model = write_model(customers(200))
    local = ingest(model, at(model), settings)
    client.upload_file(str(tmp_path / "table.parquet"), "data", "tables/part.parquet")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    there = model.model_copy(update={"source": model.source.model_copy(update={"path": "s3://data/tables/"})})
    remote = ingest(there, at(there), replace(settings, home=tmp_path / "other"))
    assert remote.digest == local.digest


def test_a_remote_that_cannot_be_reached_is_named_and_the_snapshot_does_not_count(bucket, write_model, settings):
    endpoint, _ = bucket
    remote = replace(settings, data_remote_url="s3://no-such-bucket/evergreen", data_remote_endpoint_url=endpoint)
    model = write_model(customers(200))
    with pytest.raises(OutsideFailure, match="EVERGREEN_DATA_REMOTE_URL"):
        ingest(model, at(model), remote)
    assert not list((settings.store / "ingest").glob("[!.]*"))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 3 MB."""
    where = tmp_path / "tiny"
    where.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(where)], check=False).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tiny_disk, write_model, settings):
    model = write_model(customers(60_000))
    full = replace(settings, home=tiny_disk / "home")
    with pytest.raises(OutsideFailure, match=r"the disk of .*tiny.* is full; free space or set EVERGREEN_HOME"):
        ingest(model, at(model), full)
    assert not list(Path(tiny_disk).rglob("*.part"))
    assert not list((full.store / "ingest").glob("[!.]*"))


def test_what_a_killed_stage_left_is_swept_by_the_next(settings):
    left = settings.store / "stage" / ".key.part"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    record = once(settings, "stage", "key", Record, lambda out: Record(out.final))
    assert record == Record("store/stage/key")
    assert not left.exists()
    assert once(settings, "stage", "key", Record, lambda out: pytest.fail("made again")) == record


def test_a_stage_that_fails_leaves_nothing(settings):
    def fail(out):
        out.path("half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        once(settings, "stage", "key", Record, fail)
    assert not list((settings.store / "stage").glob("[!.]*"))
    assert not list((settings.store / "stage").glob("*.part"))


def test_a_cutoff_names_its_folder():
    assert isinstance(at("churn"), RunContext)
    assert at("churn", "2026-06-01").label == "20260601T000000Z"
