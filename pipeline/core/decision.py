"""Decisions from probabilities: what each outcome is worth, and the threshold that makes the most of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Payoff:
    """Money made by one row of each outcome; a cost is negative."""

    true_positive: float
    false_positive: float
    true_negative: float
    false_negative: float

    @property
    def threshold(self) -> float:
        """Probability from which saying yes is worth more than saying no.

        Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001, equation 2. It needs probabilities that
        mean what they say, so look at `calibration_error` beside it.

        >>> Payoff(true_positive=80, false_positive=-20, true_negative=0, false_negative=0).threshold
        0.2
        """
        no_gain = self.true_negative - self.false_positive
        return no_gain / (no_gain + self.true_positive - self.false_negative)

    def of(self, positive: np.ndarray, called: np.ndarray) -> np.ndarray:
        """Money made by each row. Shapes (n,)."""
        import numpy as np  # here, since model files are read where NumPy is not wanted

        made = np.where(called, self.true_positive, self.false_negative)
        lost = np.where(called, self.false_positive, self.true_negative)
        return np.where(positive, made, lost)
