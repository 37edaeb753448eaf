"""The doors: one protocol a file, all over the same predictors."""

from __future__ import annotations

from serving.doors import arrow, mlflow, open_inference, own, tensorflow
from serving.front import Door
from serving.service import Service


def all_doors(service: Service) -> list[Door]:
    """Every operation of every protocol."""
    return [door for protocol in (own, tensorflow, open_inference, mlflow, arrow) for door in protocol.doors(service)]
