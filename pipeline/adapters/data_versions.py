"""Data versions through DVC: a repository of its own around the snapshots, and its remote."""

from __future__ import annotations

import configparser
import logging
from pathlib import Path

from pipeline.adapters.store import exclusive
from pipeline.errors import OutsideFailure
from pipeline.settings import Settings

REMOTE = "evergreen"


def prepare_repository(root: Path, settings: Settings) -> None:
    """Make `root` a DVC repository (without git) if it is none, and point it at the configured remote."""
    with exclusive(root / ".dvc.lock"):
        if not (root / ".dvc" / "config").is_file():
            from dvc.repo import Repo

            logging.getLogger("dvc").setLevel(logging.ERROR)
            Repo.init(str(root), no_scm=True, force=True).close()
        _configure(root, settings)


def _configure(root: Path, settings: Settings) -> None:
    config = configparser.ConfigParser()
    config["core"] = {
        "no_scm": "True",
        "analytics": "false",
        "check_update": "false",
        "site_cache_dir": str(root / ".dvc" / "site"),
    }
    config["cache"] = {"type": "reflink,hardlink,copy"}
    if settings.data_remote_url:
        config["core"]["remote"] = REMOTE
        section = f"'remote \"{REMOTE}\"'"
        config[section] = {"url": settings.data_remote_url}
        if settings.data_remote_endpoint_url:
            config[section]["endpointurl"] = settings.data_remote_endpoint_url
    temporary = root / ".dvc" / "config.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        config.write(file)
    temporary.replace(root / ".dvc" / "config")


def version(root: Path, path: Path, settings: Settings) -> str:
    """Put a file under DVC, push it where a remote is configured; return its MD5.

    Raises OutsideFailure where the remote cannot be reached: the snapshot then does not count as taken.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    prepare_repository(root, settings)
    with exclusive(root / ".dvc.lock"), Repo(str(root)) as repo:
        try:
            stage = repo.add(str(path))[0]
            if settings.data_remote_url:
                repo.push([str(path) + ".dvc"], remote=REMOTE)
        except (DvcException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise OutsideFailure(
                f"DVC could not version {path.name}: {error}; check EVERGREEN_DATA_REMOTE_URL and the remote's access"
            ) from error
        return str(stage.outs[0].hash_info.value)


def fetch(root: Path, path: Path, settings: Settings) -> None:
    """Get a file back from the data remote, by the note that DVC left beside it.

    Raises OutsideFailure where there is no remote, no note, or no such data.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    note = path.with_name(path.name + ".dvc")
    if not settings.data_remote_url:
        raise OutsideFailure("no data remote is configured; set EVERGREEN_DATA_REMOTE_URL")
    if not note.is_file():
        raise OutsideFailure(f"{note} is gone too, which says what to fetch")
    prepare_repository(root, settings)
    with exclusive(root / ".dvc.lock"), Repo(str(root)) as repo:
        try:
            repo.pull([str(note)], remote=REMOTE)
        except DvcException as error:
            raise OutsideFailure(f"DVC could not fetch {path.name}: {error}") from error
