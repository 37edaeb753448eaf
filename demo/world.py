"""The world day by day: what happened, when it came to be known, and the truth behind it.

A day depends on the seed and on its number alone, so a longer world begins with the shorter one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from demo.calendar import BLIND_SENSOR, CORRECTED_SHARE, FAULTS, LABEL_DAYS, NEW_PLAN, PRICE_RISE

GENERATOR_VERSION = 1
PLANS, CONTRACTS = ("basic", "family", "plus"), ("monthly", "one_year", "two_year")
PAYMENTS, REGIONS = ("bank", "card", "check", "wallet"), ("centre", "coast", "east", "north", "south", "west")
PLAN_CHARGE = {"basic": 25.0, "family": 70.0, "plus": 45.0, "flex": 38.0}
FEATURES = (
    "tenure_months", "monthly_charge", "total_charge", "data_gb", "support_calls", "late_payments",
    "signal_quality", "roaming_minutes", "autopay", "plan", "contract", "payment", "region",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """The parameters of a world; equal ones give equal bytes."""

    seed: int = 7
    start: date = date(2024, 10, 1)
    days: int = 730
    reviews_a_day: int = 100

    def __post_init__(self) -> None:
        if self.days < 1 or self.reviews_a_day < 1:
            raise ValueError("a world needs at least one day and one review a day")


def reviews(world: World, day: int) -> pd.DataFrame:
    """The account reviews of one day as they really were, with the chance to leave and whether they did.

    Shape (reviews_a_day, features + customer_id, event_time, chance, churned); no faults, all known.
    """
    rng = np.random.default_rng([world.seed, day])
    n = world.reviews_a_day
    summer = np.sin(2 * np.pi * ((world.start + timedelta(days=day)).timetuple().tm_yday - 105) / 365)
    tenure = rng.integers(0, 73, n)
    contract = np.where(rng.random(n) < 0.25 + tenure / 140, rng.choice(CONTRACTS[1:], n), CONTRACTS[0])
    plan = rng.choice(PLANS, n, p=[0.4, 0.25, 0.35])
    if NEW_PLAN.on(day):
        plan = np.where(rng.random(n) < 1 / 6, "flex", plan)
    charge = np.array([PLAN_CHARGE[p] for p in plan]) + rng.normal(0, 6, n)
    if PRICE_RISE.on(day):
        charge *= 1.18
    charge = np.maximum(charge, 8).round(2)
    frame = pd.DataFrame(
        {
            # A customer comes back every thirty days: the number tells on which of them.
            "customer_id": [f"C{(day % 30) * 10_000 + i:06d}" for i in range(n)],
            "event_time": _instants(world, day, np.sort(rng.integers(0, 86_400, n))),
            "tenure_months": tenure,
            "monthly_charge": charge,
            "total_charge": (charge * (tenure + rng.random(n))).round(2),
            "data_gb": np.maximum(rng.gamma(3, 4, n) * (1 + 0.35 * summer), 0).round(3),
            "support_calls": rng.poisson(0.9, n),
            "late_payments": rng.poisson(0.4, n),
            "signal_quality": np.clip(rng.normal(0.75, 0.15, n), 0, 1).round(3),
            "roaming_minutes": rng.poisson(np.full(n, 6 * (1.2 + summer))),
            "autopay": rng.random(n) < 0.55,
            "plan": plan,
            "contract": contract,
            "payment": rng.choice(PAYMENTS, n),
            "region": rng.choice(REGIONS, n),
        }
    )
    chance = true_probability(frame, price_rise=PRICE_RISE.on(day))
    return frame.assign(chance=chance, churned=(rng.random(n) < chance).astype("int8"))


def true_probability(frame: pd.DataFrame, *, price_rise: bool) -> np.ndarray:
    """The chance that each customer leaves within 30 days: the truth that a model looks for, shape (n,)."""
    monthly = (frame["contract"] == "monthly").to_numpy()
    dear = (frame["monthly_charge"].to_numpy() - 45) / 20
    logit = (
        -2.6
        - 0.035 * frame["tenure_months"].to_numpy()
        + 1.7 * monthly
        + 0.75 * frame["support_calls"].to_numpy()
        + 0.8 * frame["late_payments"].to_numpy()
        - 3.2 * (frame["signal_quality"].to_numpy() - 0.75)
        - 0.7 * frame["autopay"].to_numpy()
        + 0.5 * dear
        + 0.5 * (frame["payment"] == "check").to_numpy()
        + 0.6 * monthly * (frame["plan"] == "family").to_numpy()
    )
    if price_rise:
        logit = logit + monthly * (0.4 + 1.1 * dear) - 0.5 * frame["support_calls"].to_numpy()
    return np.asarray(1 / (1 + np.exp(-logit)))


def arrivals(world: World, day: int) -> pd.DataFrame:
    """All copies of one day's reviews with the instant at which each arrived.

    The first copy arrives within three days without its label; a corrected one may follow; the one with
    the label comes after it has matured. Malformed copies are first copies, for ever uncorrected.
    """
    rng = np.random.default_rng([world.seed, day, 1])
    truth = reviews(world, day).drop(columns="chance")
    n = len(truth)
    event = truth["event_time"]
    first = truth.assign(
        churned=pd.array([pd.NA] * n, dtype="Int8"), arrived_at=event + _hours(rng.exponential(9, n).clip(0.2, 72))
    )
    if BLIND_SENSOR.on(day):
        first["signal_quality"] = np.nan
    known = first.assign(
        churned=truth["churned"].astype("Int8"),
        arrived_at=event + pd.Timedelta(days=LABEL_DAYS) + _hours(rng.uniform(0.5, 12, n)),
    )
    wrong = rng.random(n) < CORRECTED_SHARE
    corrected = first[wrong].assign(arrived_at=(first["arrived_at"] + _hours(24 * rng.uniform(3, 20, n)))[wrong])
    first.loc[wrong, "total_charge"] *= 100
    fault = rng.choice(["", *FAULTS], n, p=[1 - sum(FAULTS.values()), *FAULTS.values()])
    spoilt = _spoil(first, fault)
    unspoilt = fault == ""
    copies: pd.DataFrame = pd.concat([spoilt, corrected[unspoilt[wrong]], known[unspoilt]], ignore_index=True)
    return copies


def _spoil(frame: pd.DataFrame, fault: np.ndarray) -> pd.DataFrame:
    frame = frame.copy()
    frame.loc[fault == "negative tenure", "tenure_months"] = -1
    frame.loc[fault == "charge of a million", "monthly_charge"] = 1e6
    frame.loc[fault == "infinite charge", "monthly_charge"] = np.inf
    frame.loc[fault == "plan left blank", "plan"] = ""
    frame.loc[fault == "no customer", "customer_id"] = None
    frame.loc[fault == "no event time", "event_time"] = pd.NaT
    return frame


def _instants(world: World, day: int, seconds: np.ndarray) -> pd.Series:
    midnight = pd.Timestamp(world.start, tz="UTC") + pd.Timedelta(days=day)
    return pd.Series(midnight + pd.to_timedelta(seconds, unit="s")).astype("datetime64[us, UTC]")


def _hours(hours: np.ndarray) -> pd.Series:
    return pd.Series(pd.to_timedelta((hours * 3600).round(), unit="s"))
