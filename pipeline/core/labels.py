"""Labels as the classes that a model knows, however they are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

Array = np.ndarray
ALIKE = (("1", "True", "true", "TRUE"), ("0", "False", "false", "FALSE"))
"""Ways to write one truth value; a label takes another way only where it is no class itself."""


def class_index(labels: Array, classes: Sequence[str]) -> Array:
    """Place of each label among the classes, -1 for none: int64, shape (n,).

    `labels`: texts, shape (n,); None where none is known.

    >>> class_index(np.array(["True", "0", "x", None], dtype=object), ("0", "1")).tolist()
    [1, 0, -1, -1]
    >>> class_index(np.array(["1", "true", "False"], dtype=object), ("False", "True")).tolist()
    [1, 1, 0]
    """
    place = {name: number for number, name in enumerate(classes)}
    for ways in ALIKE:
        known = [place[way] for way in ways if way in place]
        if len(known) == 1:
            place |= dict.fromkeys(ways, known[0])
    found = pd.Series(labels, dtype=object).map(place)
    return np.asarray(found.fillna(-1).to_numpy(dtype=np.int64))
