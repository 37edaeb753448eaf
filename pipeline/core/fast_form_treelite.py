"""Trees in treelite, evaluated by its general interpreter: slower than ONNX, but it knows splits on categories."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pipeline.core.fast_form_trees import FORESTS, GRADIENT, HISTOGRAM
from pipeline.core.preparation import NotRepresentable

NAMES = FORESTS + GRADIENT + HISTOGRAM


class Trees:
    """A treelite model. Its softmax computes in float32; everything else in float64."""

    kind: Literal["treelite"] = "treelite"

    def __init__(self, model: Any, *, double: bool, classes: int) -> None:
        self._model, self._double, self._classes = model, double, classes

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm."""
        from treelite import gtil

        if not len(matrix):
            return np.empty((0, self._classes) if self._classes else 0)
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(matrix, dtype=np.float64 if self._double else np.float32)
        raw = np.asarray(gtil.predict(self._model, matrix, nthread=1), dtype=np.float64).reshape(len(matrix), -1)
        if self._classes == 0:
            return np.asarray(raw[:, 0])
        return np.column_stack([1 - raw[:, 0], raw[:, 0]]) if raw.shape[1] == 1 else raw

    def to_bytes(self) -> bytes:
        """One byte for the type of the matrix, four for the number of classes, then treelite's own form."""
        return bytes([self._double]) + self._classes.to_bytes(4, "big") + bytes(self._model.serialize_bytes())

    @classmethod
    def from_bytes(cls, content: bytes) -> Trees:
        """The inverse of `to_bytes`."""
        import treelite

        model = treelite.Model.deserialize_bytes(content[5:])
        return cls(model, double=bool(content[0]), classes=int.from_bytes(content[1:5], "big"))

    @classmethod
    def of(cls, estimator: Any) -> Trees:
        """Read a fitted estimator of `NAMES`. Raises NotRepresentable."""
        import treelite.sklearn
        from treelite import TreeliteError

        name = type(estimator).__name__
        if name in GRADIENT and len(estimator.estimators_) != estimator.n_estimators:
            # treelite 4 counts by `n_estimators`, and would read past the trees of one that stopped early.
            raise NotRepresentable("treelite cannot read gradient boosting that stopped early")
        try:
            model = treelite.sklearn.import_model(estimator)
        except (TreeliteError, NotImplementedError) as error:
            raise NotRepresentable(f"treelite cannot read it: {error}") from error
        classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
        return cls(model, double=name in HISTOGRAM, classes=classes)
