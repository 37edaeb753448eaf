"""What happens to the demo world, and when: days count from its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Happening:
    """Something that changes the world from `start_day` until before `end_day`; None: for good."""

    name: str
    start_day: int
    end_day: int | None
    what: str

    def on(self, day: int) -> bool:
        """Whether it is going on.

        >>> Happening("x", 10, 20, "").on(10), Happening("x", 10, 20, "").on(20), Happening("x", 10, None, "").on(99)
        (True, False, True)
        """
        return self.start_day <= day and (self.end_day is None or day < self.end_day)


SEASON = Happening("season", 0, None, "every year: roaming and data use rise in summer and fall in winter")
PRICE_RISE = Happening(
    "price rise", 400, None, "charges rise by 18 %; customers without a long contract leave more often for their price"
)
NEW_PLAN = Happening("new plan", 480, None, "a plan that nobody has seen, `flex`, is taken by one review in six")
BLIND_SENSOR = Happening("blind sensor", 570, 590, "signal_quality is blank for everyone")
CALENDAR = (SEASON, PRICE_RISE, NEW_PLAN, BLIND_SENSOR)

FAULTS = {
    "negative tenure": 0.003,
    "charge of a million": 0.002,
    "infinite charge": 0.001,
    "plan left blank": 0.002,
    "no customer": 0.001,
    "no event time": 0.001,
}
"""Share of first copies that arrive malformed, by kind: 1 % together, for good and at any time."""
CORRECTED_SHARE = 0.02
"""Share of rows whose total_charge was mis-keyed and is corrected 3 to 20 days later."""
LABEL_DAYS = 30
"""A review's label is known this many days after it."""
