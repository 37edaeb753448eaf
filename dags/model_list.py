"""Which models there are, for the files that make DAGs of them. No DAG in here."""

from __future__ import annotations

from pathlib import Path

from croniter import croniter  # type: ignore[import-untyped]

from pipeline.config import ModelConfig, load_model, model_names
from pipeline.errors import BadConfiguration


def read_models(models_dir: Path) -> tuple[list[ModelConfig], list[str]]:
    """The models that can be used, and one message for each file that cannot.

    A file with a mistake costs its own DAGs only; all other models keep theirs.
    """
    usable: list[ModelConfig] = []
    problems: list[str] = []
    for name in model_names(models_dir):
        try:
            usable.append(_with_valid_schedule(load_model(name, models_dir), models_dir))
        except (BadConfiguration, OSError, UnicodeDecodeError) as error:
            message = str(error)
            problems.append(message if name in message else f"{models_dir / name}.yaml: {message}")
    return usable, problems


def _with_valid_schedule(model: ModelConfig, models_dir: Path) -> ModelConfig:
    for key, cron in model.schedules.model_dump().items():
        if cron is not None and not croniter.is_valid(cron):
            raise BadConfiguration(
                f"{models_dir / model.name}.yaml: schedules.{key}: {cron!r} is not a cron expression; "
                'write it like "0 3 * * *" (every day at 03:00 UTC)'
            )
    return model
