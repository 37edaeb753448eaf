"""Real streams, replayed under every policy: what each of them got, for how many retrainings.

`EVERGREEN_REAL_DATA=FOLDER python -m benchmarks.replay [--every DAYS] [--only NAME] [--picture FILE]`. The same
settings for all of them: the model file as `python -m pipeline new` writes it, less the column that gives the answer
or the time away, monitoring as it is by default, and retraining by default but for its greatest age.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.adapters.replay_plot import draw
from pipeline.config import ModelConfig, load_model, override
from pipeline.core.replay_policies import POLICIES
from pipeline.new import new
from pipeline.replay import Asked, Replay, replayed, told
from pipeline.settings import Settings, load_settings

TREES: dict[str, object] = {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15, "early_stopping": False}
"""Hundreds of models are fitted, so they are smaller than `new` proposes."""
MAX_AGE_DAYS = 60
"""The one setting of the combined policy that is not the default. Alarms tell that a model became worse than it was;
that a better one could be had they cannot tell, and where the first was poor from the start only its age asks for it.
"""


@dataclass(frozen=True)
class Stream:
    """A table whose rows stand in order of time."""

    file: str
    target: str
    left_out: str | None
    """A column that is no feature: it knows the answer, or counts the rows."""
    rows_a_day: int
    begin: str
    """The first model's cut-off. Four fifths of what is known then train: 40 % of the weather."""


STREAMS = {
    "bank": Stream("bank_additional_full.csv", "y", "duration", 44, "30%"),
    "electricity": Stream("elec2.csv", "class", "date", 48, "30%"),
    "weather": Stream("noaa_weather.csv", "target", None, 50, "50%"),
}


def model_of(stream: Stream, folder: Path, settings: Settings) -> ModelConfig:
    """The model file of a stream."""
    new(
        Namespace(
            name="stream", data=str(folder / stream.file), target=stream.target, task=None, entity=[], event_time=None,
            arrival=None, known_after_days=0, ordered_rows=True, separator=None, encoding="utf-8", force=True,
        ),
        settings,
    )  # fmt: skip
    model = load_model("stream", settings.models_dir)
    columns = {name: kind for name, kind in (model.features.columns or {}).items() if name != stream.left_out}
    changes = {"features.columns": columns, "training.parameters": TREES, "training.max_onehot": 0,
               "retraining.max_age_days": MAX_AGE_DAYS}  # fmt: skip
    return override(model, changes)


def replay_of(stream: Stream, folder: Path, every_days: int, policies: tuple[str, ...]) -> Replay:
    """A stream replayed, in an installation of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings({"EVERGREEN_HOME": f"{home}/home", "EVERGREEN_MODELS": f"{home}/models"})
        asked = Asked(stream.begin, None, stream.rows_a_day, every_days, policies)
        return replayed(model_of(stream, folder, settings), asked, settings, datetime.now(UTC))


def main() -> None:
    """Print every table; draw the electricity's where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=7, metavar="DAYS", help="between checks (default %(default)s)")
    parser.add_argument("--only", choices=STREAMS, help="one of them")
    parser.add_argument("--policies", default=",".join(POLICIES), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the last one into this file")
    parsed = parser.parse_args()
    folder = Path(os.environ["EVERGREEN_REAL_DATA"])
    for name, stream in STREAMS.items():
        if parsed.only not in (None, name):
            continue
        found = replay_of(stream, folder, parsed.every, tuple(parsed.policies.split(",")))
        print(f"\n== {name}\n{told(found)}", flush=True)
        if parsed.picture:
            draw(found.outcomes, found.walks, found.primary, found.proposed, parsed.picture)


if __name__ == "__main__":
    main()
