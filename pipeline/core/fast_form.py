"""Fast forms of fitted estimators: scikit-learn's answers without scikit-learn.

Each takes the float64 matrix of the preparation. An estimator may have several; which one serves is decided
by trial at registration (`pipeline.adapters.form_trial`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np

from pipeline.core import fast_form_linear, fast_form_treelite, fast_form_trees
from pipeline.core.fast_form_arrays import NaiveBayes, Network
from pipeline.core.fast_form_linear import Linear
from pipeline.core.fast_form_onnx import OnnxTrees
from pipeline.core.fast_form_treelite import Trees
from pipeline.core.preparation import NotRepresentable

Kind = Literal["linear", "mlp", "naive_bayes", "onnx", "treelite"]
_SEARCHES = "its answers come from all its training rows, which have to be searched whichever way"
NO_FORM = {"KNeighborsClassifier": _SEARCHES, "KNeighborsRegressor": _SEARCHES}
"""Why an estimator that a model file may name has no fast form."""


class FastForm(Protocol):
    """An estimator without scikit-learn."""

    @property
    def kind(self) -> Kind:
        """How the package calls it."""

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Probabilities, shape (n, classes), or predictions, shape (n,), for a matrix of shape (n, k), float64."""

    def to_bytes(self) -> bytes:
        """What `load` reads."""


READ: dict[Kind, tuple[tuple[str, ...], Callable[[Any], FastForm], Callable[[bytes], FastForm]]] = {
    "linear": (fast_form_linear.NAMES, Linear.of, Linear.from_bytes),
    "mlp": (("MLPClassifier", "MLPRegressor"), Network.of, Network.from_bytes),
    "naive_bayes": (("GaussianNB",), NaiveBayes.of, NaiveBayes.from_bytes),
    "onnx": (fast_form_trees.NAMES, OnnxTrees.of, OnnxTrees.from_bytes),
    "treelite": (fast_form_treelite.NAMES, Trees.of, Trees.from_bytes),
}
"""By kind: names of estimators, how one is read, how its bytes are. In the order of preference: measured on
forests and boosting, ONNX Runtime is about three times faster than treelite for one row, for 32 and for 1,000."""


def forms(estimator: Any) -> Iterator[tuple[Kind, FastForm | NotRepresentable]]:
    """Each form that estimators of this name have, most wanted first, or why this very one has it not."""
    for kind, (names, of, _) in READ.items():
        if type(estimator).__name__ in names:
            try:
                yield kind, of(estimator)
            except NotRepresentable as reason:
                yield kind, reason


def export(estimator: Any) -> FastForm | None:
    """The most wanted form of a fitted estimator, untried; None where there is none."""
    return next((form for _, form in forms(estimator) if not isinstance(form, NotRepresentable)), None)


def load(kind: Kind, content: bytes) -> FastForm:
    """The inverse of `to_bytes`."""
    return READ[kind][2](content)
