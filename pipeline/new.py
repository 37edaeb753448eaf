"""`python -m pipeline new`: a model file from a table, with what was inferred and what is doubtful."""

from __future__ import annotations

import argparse
import codecs
import csv
import difflib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadConfiguration, SourceUnreadable
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.core.doubts import Doubt
    from pipeline.core.guesses import Asked
    from pipeline.core.profile import Column
    from pipeline.core.proposal import Proposal

ROWS_READ = 200_000
"""Rows that are looked at: enough to tell every kind, few enough to answer in seconds."""
HEAD_BYTES = 8 << 20
SEPARATORS = ",;\t|"
SEED = 0
"""Draws the rows on which leaks are measured: the same table gives the same file."""


@dataclass(frozen=True)
class Seen:
    """What was read of a table."""

    source: dict[str, str]
    """The keys of the section `source`."""
    columns: list[Column]
    rows: int
    is_whole: bool
    doubts: list[Doubt]


@dataclass(frozen=True)
class NewResult:
    """The file that was written, and what to know about it."""

    model: str
    path: str
    source: dict[str, str]
    rows_read: int
    is_whole: bool
    """Whether the table has no more rows than were read."""
    facts: tuple[str, ...]
    """What was inferred, a line each."""
    inferred: Proposal

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is odd, the columns that were left out for it first."""
        return self.inferred.doubts

    def to_json(self) -> str:
        """For programs."""
        content = asdict(self)
        content["doubts"] = content["inferred"].pop("doubts")
        return json.dumps(content | {"excluded": self.inferred.excluded}, sort_keys=True)

    def to_text(self) -> str:
        """For people."""
        more = "" if self.is_whole else "; the table has more, which were not looked at"
        lines = [f"wrote {self.path}", "", f"inferred from {self.rows_read:,} rows{more}:"]
        lines += [f"  {fact}" for fact in self.facts]
        for heading, wanted in (("left out:", True), ("doubtful:", False)):
            found = [doubt for doubt in self.doubts if doubt.excluded is wanted]
            if found:
                lines += ["", heading, *(f"  {doubt.column}: {doubt.reason}" for doubt in found)]
        return "\n".join([*lines, "", f"next: read it, then python -m pipeline run --model {self.model}"])


def new(arguments: argparse.Namespace, settings: Settings) -> NewResult:
    """Look at the table and write models/NAME.yaml, whole or not at all.

    Raises BadConfiguration (a name or flag that cannot be, a file that is there), SourceUnreadable,
    BadData, NotEnoughData (the table, its target).
    """
    import numpy as np

    from pipeline.config import parse_model
    from pipeline.core.model_text import model_text
    from pipeline.core.proposal import describe, propose

    path = settings.models_dir / f"{arguments.name}.yaml"
    _check(arguments, path)
    seen = _read(arguments)
    by_name = {column.name: column for column in seen.columns}
    asked = _asked(arguments)
    named = (("--target", asked.target), *(("--entity", name) for name in asked.entity),
             ("--event-time", asked.event), ("--arrival", asked.arrival))  # fmt: skip
    _require([(flag, name) for flag, name in named if name], list(by_name), arguments.data)
    proposal = propose(seen.columns, asked, np.random.default_rng(SEED), seen.doubts)
    about = f"{Path(arguments.data).name} ({seen.rows:,} rows read)"
    text = model_text(proposal, asked.target, seen.source, asked.known_after_days, about)
    parse_model(text, arguments.name, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    facts = tuple(f"source.{key}: {value!r}" for key, value in seen.source.items() if key != "path")
    facts += describe(proposal, asked, by_name)
    return NewResult(arguments.name, str(path), seen.source, seen.rows, seen.is_whole, facts, proposal)


def _check(arguments: argparse.Namespace, path: Path) -> None:
    """What can be refused before the table is read."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", arguments.name):
        near = re.sub(r"[^a-z0-9]+", "_", arguments.name.lower()).strip("_0123456789")[:64]
        raise BadConfiguration(
            f"{arguments.name!r} cannot name a model: small letters, digits and _ can, a letter first"
            + (f"; {near!r} would do" if near else "")
        )
    if path.exists() and not arguments.force:
        raise BadConfiguration(f"{path} is there already; choose another name, or write over it with --force")
    if arguments.ordered_rows and arguments.event_time:
        raise BadConfiguration("--ordered-rows is for tables without instants; leave it or --event-time out")
    if arguments.arrival and not arguments.event_time:
        raise BadConfiguration("--arrival needs --event-time, the column that says when a row happened")
    if arguments.known_after_days < 0:
        raise BadConfiguration(f"--known-after-days {arguments.known_after_days:g} is negative; labels come later")


def _asked(arguments: argparse.Namespace) -> Asked:
    from pipeline.core.guesses import Asked

    return Asked(arguments.target, getattr(arguments, "task", None), tuple(arguments.entity), arguments.event_time,
                 arguments.arrival, arguments.known_after_days, arguments.ordered_rows)  # fmt: skip


def _require(named: Sequence[tuple[str, str]], known: list[str], where: str) -> None:
    for flag, name in named:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            near = near or [column for column in known if column.lower() == name.lower()]
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known[:20])}"
            raise BadConfiguration(f"{flag} {name}: {where} has no such column; {hint}")
    names = [name for _, name in named]
    for name in names:
        if names.count(name) > 1:
            raise BadConfiguration(f"the column {name!r} is named by two flags; a column has one role")


def _read(arguments: argparse.Namespace) -> Seen:
    """The first rows of the table, column by column, and how the model file names the table."""
    import pyarrow as pa

    from pipeline.adapters.sources import open_table
    from pipeline.core.doubts import ROWS, Doubt
    from pipeline.core.profile import read_column
    from pipeline.sections import Source

    form = _form(arguments)
    doubts = []
    if "encoding" in form and arguments.encoding == "utf-8":
        text = f"the file is not UTF-8 and was read as {form['encoding']}; look at its accents, or give --encoding"
        doubts.append(Doubt(ROWS, "encoding", text))
    batches, rows = [], 0
    try:
        table = open_table(Source.model_validate({"path": arguments.data, **form}))
        for batch in table.batches():
            batches.append(batch)
            rows += batch.num_rows
            if rows > ROWS_READ:
                break
    except SourceUnreadable as error:
        hint = "; here with --separator or --encoding" if "set source." in str(error) else ""
        raise SourceUnreadable(f"{error}{hint}") from error
    if rows == 0:
        raise SourceUnreadable(f"{arguments.data} has a header but no rows; check the source or its export")
    for place, name in enumerate(table.schema.names, start=1):
        if not name:
            raise SourceUnreadable(
                f"column {place} of {arguments.data} has no name; name it in the source (pandas writes it "
                "for the index: to_csv(..., index=False) leaves it out)"
            )
    if table.malformed_count:
        text = f"{table.malformed_count:,} lines do not split into the columns; they are rejected"
        doubts.append(Doubt(ROWS, "malformed", text))
    whole = pa.Table.from_batches(batches, schema=table.schema).slice(0, ROWS_READ)
    columns = [read_column(name, whole.column(name)) for name in whole.column_names]
    return Seen({"path": arguments.data, **form}, columns, whole.num_rows, rows <= ROWS_READ, doubts)


def _form(arguments: argparse.Namespace) -> dict[str, str]:
    """Format, separator and encoding of the table, where the model file has to name them."""
    name, head = _head(arguments.data)
    if head.startswith(b"PAR1") or name.endswith((".parquet", ".pq")):
        return {} if name.endswith((".parquet", ".pq")) else {"format": "parquet"}
    form = {} if name.endswith((".csv", ".csv.gz", ".tsv", ".txt")) else {"format": "csv"}
    encoding = arguments.encoding if arguments.encoding != "utf-8" else guess_encoding(head)
    if b"\0" in head and not encoding.lower().startswith("utf"):
        raise SourceUnreadable(f"{name} is neither text nor Parquet; export it as CSV or Parquet")
    try:
        separator = arguments.separator or guess_separator(head.decode(encoding, errors="replace"))
    except LookupError:
        raise BadConfiguration(f"--encoding {encoding} is unknown to Python; utf-8 and latin-1 are usual") from None
    if separator != ",":
        form["separator"] = separator
    if encoding != "utf-8":
        form["encoding"] = encoding
    return form


def _head(data: str) -> tuple[str, bytes]:
    """Name and first bytes of the table's first file; empty where it cannot be opened, which is told later."""
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(data)
        if filesystem.isdir(path):
            files = sorted(
                f for f in filesystem.find(path) if f.endswith((".csv", ".csv.gz", ".tsv", ".txt", ".parquet", ".pq"))
            )
        else:
            files = sorted(filesystem.glob(path)) if any(c in path for c in "*?[") else [path]
        with filesystem.open(files[0], "rb", compression="infer") as file:
            return files[0], file.read(HEAD_BYTES)
    except (ImportError, IndexError, ValueError, OSError):
        return f"{data}.csv", b""


def guess_encoding(head: bytes) -> str:
    """UTF-8 where the bytes are that, else what spreadsheets write.

    >>> guess_encoding("café".encode()), guess_encoding("café".encode("cp1252"))
    ('utf-8', 'cp1252')
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(head, final=len(head) < HEAD_BYTES)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def guess_separator(head: str) -> str:
    r"""The one that splits the first lines into the same number of fields, and into most.

    >>> guess_separator('a;b;c\n1,5;2;"x;y"\n')
    ';'
    """
    lines = head.splitlines()[:50]
    lines = lines[:-1] if len(lines) == 50 else lines

    def fields(separator: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            return 0.0, 0
        first = widths[0] if widths else 0
        return (sum(w == first for w in widths) / len(widths), first) if first > 1 else (0.0, first)

    return max(SEPARATORS, key=fields)
