"""Where the files of the prediction log lie: a folder, or a bucket of S3. A file is there whole or not at all.

Names are relative and have slashes. Raises OutsideFailure where the store does not answer, and FileNotFoundError for
a file that is gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutsideFailure
from pipeline.log_settings import LogSettings

CONNECT_SECONDS = 5.0
ATTEMPTS = 2
"""Of one request to S3; the keeper tries again by itself."""


class LogStore(Protocol):
    """A tree of files."""

    def folders(self, under: str) -> list[str]:
        """Names of the folders directly below, sorted."""

    def files(self, under: str) -> dict[str, int]:
        """Sizes in bytes by the names of the files directly below, sorted."""

    def put(self, name: str, content: Any) -> None:
        """Write a file, in the place of one of this name."""

    def metadata(self, name: str) -> dict[bytes, bytes]:
        """Of a Parquet file, without its rows."""

    def table(self, name: str, **more: Any) -> pa.Table:
        """A Parquet file; `more` is passed to pyarrow.parquet.read_table."""

    def delete(self, name: str) -> None:
        """Delete a file; one that is gone is gone."""

    def delete_folder(self, name: str) -> None:
        """Delete everything below."""


def open_store(settings: LogSettings) -> LogStore:
    """The configured one. Nothing is asked of it yet."""
    url = settings.storage_url
    if url is None:
        return FolderStore(settings.folder)
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return BucketStore(url, settings.storage_endpoint_url)
    return FolderStore(Path(parts.path if parts.scheme == "file" else url).absolute() / "predictions")


class FolderStore:
    """A local folder, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self, under: str) -> list[str]:
        """See LogStore."""
        with self._guard():
            folder = self._root / under
            return sorted(e.name for e in os.scandir(folder) if e.is_dir()) if folder.is_dir() else []

    def files(self, under: str) -> dict[str, int]:
        """See LogStore."""
        with self._guard():
            folder = self._root / under
            if not folder.is_dir():
                return {}
            found = sorted(e.name for e in os.scandir(folder) if e.is_file() and not e.name.startswith("."))
            return {name: (folder / name).stat().st_size for name in found}

    def put(self, name: str, content: Any) -> None:
        """See LogStore."""
        path = self._root / name
        # The same for whoever writes this file again after a kill, so that nothing is left behind.
        temporary = path.with_name(f".{path.name}.part")
        with self._guard():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            temporary.replace(path)
            _sync_folder(path.parent)

    def metadata(self, name: str) -> dict[bytes, bytes]:
        """See LogStore."""
        with self._guard(), pa.OSFile(str(self._root / name)) as file:
            return dict(pq.read_schema(file).metadata or {})

    def table(self, name: str, **more: Any) -> pa.Table:
        """See LogStore."""
        with self._guard(), pa.OSFile(str(self._root / name)) as file:
            return pq.read_table(file, **more).replace_schema_metadata(None)

    def delete(self, name: str) -> None:
        """See LogStore."""
        with self._guard():
            (self._root / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """See LogStore."""
        with self._guard():
            if (self._root / name).is_dir():
                shutil.rmtree(self._root / name)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with _told(str(self._root), "EVERGREEN_STORAGE_URL or EVERGREEN_HOME"):
            yield


class BucketStore:
    """A bucket of S3 or of what speaks like it; credentials as the AWS tools find them."""

    def __init__(self, url: str, endpoint: str | None) -> None:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        parts = urlsplit(url)
        self._url = url
        self._root = "/".join(part for part in (parts.netloc, parts.path.strip("/"), "predictions") if part)
        more: dict[str, Any] = {}
        if endpoint is not None:
            scheme, _, host = endpoint.partition("://")
            more = {"scheme": scheme, "endpoint_override": host}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region or endpoint:
            more["region"] = region or "us-east-1"
        self._system = S3FileSystem(
            connect_timeout=CONNECT_SECONDS, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS), **more
        )

    def folders(self, under: str) -> list[str]:
        """See LogStore."""
        from pyarrow.fs import FileType

        return sorted(info.base_name for info in self._list(under) if info.type == FileType.Directory)

    def files(self, under: str) -> dict[str, int]:
        """See LogStore."""
        from pyarrow.fs import FileType

        found = {info.base_name: info.size for info in self._list(under) if info.type == FileType.File}
        return dict(sorted(found.items()))

    def put(self, name: str, content: Any) -> None:
        """See LogStore."""
        with self._guard(), self._system.open_output_stream(self._path(name)) as file:
            file.write(content)

    def metadata(self, name: str) -> dict[bytes, bytes]:
        """See LogStore."""
        with self._guard(), self._system.open_input_file(self._path(name)) as file:
            return dict(pq.read_schema(file).metadata or {})

    def table(self, name: str, **more: Any) -> pa.Table:
        """See LogStore."""
        with self._guard(), self._system.open_input_file(self._path(name)) as file:
            # All at once: a request costs more than the bytes of a column that is not wanted.
            return pq.read_table(pa.BufferReader(file.read_buffer()), **more).replace_schema_metadata(None)

    def delete(self, name: str) -> None:
        """See LogStore."""
        with self._guard():
            try:
                self._system.delete_file(self._path(name))
            except FileNotFoundError:
                return

    def delete_folder(self, name: str) -> None:
        """See LogStore."""
        with self._guard():
            try:
                self._system.delete_dir(self._path(name))
            except FileNotFoundError:
                return

    def _list(self, under: str) -> list[Any]:
        from pyarrow.fs import FileSelector

        with self._guard():
            selector = FileSelector(self._path(under), allow_not_found=True)
            return [info for info in self._system.get_file_info(selector) if info.base_name]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with _told(self._url, "EVERGREEN_STORAGE_URL, EVERGREEN_STORAGE_ENDPOINT_URL and the bucket's access"):
            yield


@contextmanager
def _told(where: str, check: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OutsideFailure(f"the store {where} failed: {str(error)[:300]}; check {check}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
