"""A sample of rows that is the same whoever draws it: by a hash of each row's key, never by its place or by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

Array = np.ndarray
STEP = 0.5
"""By which the share falls when there are too many rows."""


def in_sample(keys: Array, share: float) -> Array:
    """Which keys belong to the sample: mask, shape (n,). A smaller share is a part of a larger one.

    `keys`: texts, shape (n,). The hash is SipHash, which has nothing to do with how users are routed.

    >>> keys = np.array([f"user {n}" for n in range(10_000)], dtype=object)
    >>> float(in_sample(keys, 0.25).mean().round(2)), bool(in_sample(keys, 1.0).all())
    (0.25, True)
    >>> bool((in_sample(keys, 0.1) <= in_sample(keys, 0.25)).all())
    True
    """
    if share >= 1:
        return np.ones(len(keys), dtype=bool)
    return np.asarray(pd.util.hash_array(keys) < np.uint64(share * 2.0**64))


def thin(tables: Iterable[pa.Table], key: Callable[[pa.Table], Array], most: int) -> tuple[list[pa.Table], float]:
    """At most `most` rows of a stream, and the share of all keys that they belong to; memory stays bounded.

    Rows of one key stay together, so that few keys of many rows may leave much less than `most`.

    >>> tables = [pa.table({"id": [str(n) for n in range(start, start + 1_000)]}) for start in range(0, 10_000, 1_000)]
    >>> kept, share = thin(tables, lambda table: table["id"].to_numpy(), 2_000)
    >>> sum(table.num_rows for table in kept) <= 2_000, round(share, 3)
    (True, 0.125)
    """
    kept: list[pa.Table] = []
    rows, share = 0, 1.0
    for table in tables:
        kept.append(_part(table, key, share))
        rows += kept[-1].num_rows
        while rows > most:
            share *= STEP
            kept = [_part(table, key, share) for table in kept]
            rows = sum(table.num_rows for table in kept)
    return kept, share


def _part(table: pa.Table, key: Callable[[pa.Table], Array], share: float) -> pa.Table:
    return table if share >= 1 else table.filter(pa.array(in_sample(key(table), share)))
