"""Two snapshots of one source: how many rows differ, and the first cell that does."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from pipeline.adapters.duck import database, number, quoted, text
from pipeline.config import ModelConfig


def first_difference(recorded: Path, found: Path, model: ModelConfig) -> str:
    """What a person would want to know first, in one line."""
    was, now = (pq.read_schema(path).names for path in (recorded, found))
    if was != now:
        lost, came = [c for c in was if c not in now], [c for c in now if c not in was]
        return f"columns lost: {', '.join(lost) or 'none'}; columns new: {', '.join(came) or 'none'}"
    with database(found.parent, 2) as db:
        for name, path in (("was", recorded), ("now", found)):
            db.execute(
                f"CREATE VIEW {name} AS SELECT * EXCLUDE (file_row_number), file_row_number AS __row "
                f"FROM read_parquet({text(str(path))}, file_row_number=true)"
            )
        rows = [number(db, f"SELECT count(*) FROM {name}") for name in ("was", "now")]
        if rows[0] != rows[1]:
            return f"{rows[1]:,} rows are known at that cut-off, recorded are {rows[0]:,}"
        differ = " OR ".join(f"w.{quoted(c)} IS DISTINCT FROM n.{quoted(c)}" for c in was)
        joined = "FROM was w JOIN now n USING (__row)"
        count = number(db, f"SELECT count(*) {joined} WHERE {differ}")
        pairs = ", ".join(f"CAST({side}.{quoted(c)} AS VARCHAR)" for c in was for side in "wn")
        first = db.execute(f"SELECT __row, {pairs} {joined} WHERE {differ} ORDER BY __row LIMIT 1").fetchone()
    if first is None:
        return "the same rows and values, written otherwise"
    cells = {column: (first[1 + 2 * i], first[2 + 2 * i]) for i, column in enumerate(was)}
    column, (old, new) = next((c, v) for c, v in cells.items() if v[0] != v[1])
    who = ", ".join(f"{c} {cells[c][0]}" for c in model.entity) or f"row {first[0]}"
    return f"{count:,} row{' differs' if count == 1 else 's differ'}; first {who}: {column} is {new}, recorded is {old}"
