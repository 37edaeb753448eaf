"""Shows, as an Airflow import error of this file alone, every model file from which no DAG can be made.

A file of its own, because Airflow counts an import error against all DAGs of the file in which it happens,
and stops scheduling them.
"""

from __future__ import annotations

from dags.model_list import read_models
from pipeline.errors import BadConfiguration
from pipeline.settings import load_settings

_models_dir = load_settings().models_dir
_models, _problems = read_models(_models_dir)
if _problems:
    raise BadConfiguration("\n".join(_problems))
if not _models:
    raise BadConfiguration(
        f"no model file in {_models_dir}: write one with `python -m pipeline new`, or set EVERGREEN_MODELS"
    )
