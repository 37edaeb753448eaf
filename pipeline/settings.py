"""Where things live: the only reader of the environment (prefix EVERGREEN_)."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import BadConfiguration
from pipeline.log_settings import LogSettings, storage

TELEMETRY_OFF = {
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "DVC_STUDIO_OFFLINE": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "SCARF_ANALYTICS": "false",
    "SCARF_NO_ANALYTICS": "true",
    "WANDB_DISABLE_STATS": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
}
"""Nothing phones home: what switches off the usage reports of the tools we stand on."""


def silence_telemetry(environ: MutableMapping[str, str] = os.environ) -> None:
    """Switch usage reports off unless the user has set the variable themselves.

    >>> environ = {"GX_ANALYTICS_ENABLED": "true"}
    >>> silence_telemetry(environ)
    >>> environ["GX_ANALYTICS_ENABLED"], environ["MLFLOW_DISABLE_TELEMETRY"]
    ('true', 'true')
    """
    for name, value in TELEMETRY_OFF.items():
        environ.setdefault(name, value)


MIN_SECRET_CHARACTERS = 16
"""Of the secret that Alertmanager shows to the receiver."""


@dataclass(frozen=True)
class Settings:
    """Where the state of one installation lives. All paths are absolute."""

    home: Path
    """Local state: stored outputs, records of runs, databases, model packages."""
    models_dir: Path
    """The folder of the model files."""
    database_url: str
    """SQLAlchemy address of Evergreen's own tables (rollouts, servers, feedback)."""
    mlflow_uri: str
    """MLflow tracking and registry address."""
    data_remote_url: str | None
    """DVC remote that snapshots are pushed to, such as s3://bucket/path; None keeps them here."""
    data_remote_endpoint_url: str | None
    """Endpoint of an S3-compatible remote."""
    threads: int
    """Threads a stage may use."""
    deploy_timeout_seconds: float
    """How long a deployment waits for the servers before it puts the old version back."""
    storage_url: str | None = None
    """Where the prediction log is kept: s3://BUCKET[/PREFIX] or a path; None: under `home`."""
    storage_endpoint_url: str | None = None
    """Endpoint of an S3-compatible store."""

    @property
    def store(self) -> Path:
        """Outputs of stages, in folders named by what they depend on."""
        return self.home / "store"

    @property
    def runs(self) -> Path:
        """Which stored output each run ended with: runs/MODEL/CUT-OFF/STAGE.json."""
        return self.home / "runs"

    @property
    def schemas(self) -> Path:
        """The pinned schema of each model."""
        return self.home / "schemas"

    @property
    def packages(self) -> Path:
        """Model packages, in folders named by their digest."""
        return self.home / "packages"

    @property
    def predictions(self) -> Path:
        """The prediction log: what is local of it."""
        return self.home / "predictions"

    @property
    def log(self) -> LogSettings:
        """The prediction log, for those who read it; how servers write it, pipeline.log_settings reads."""
        return LogSettings(self.predictions, self.storage_url, self.storage_endpoint_url)

    @property
    def mlflow_artifacts(self) -> Path:
        """Where MLflow keeps artifacts when it has no server of its own."""
        return self.home / "mlflow-artifacts"

    def relative(self, path: Path) -> str:
        """A path as records hold it: relative to `home`, the same on every machine."""
        return path.relative_to(self.home).as_posix()


def load_settings(environ: MutableMapping[str, str] = os.environ) -> Settings:
    """Read the environment once, and switch off the usage reports of the tools below us.

    Raises BadConfiguration for a number that is none.

    >>> load_settings({"EVERGREEN_HOME": "/srv/evergreen"}).database_url
    'sqlite:////srv/evergreen/evergreen.db'
    """
    silence_telemetry(environ)
    home = Path(environ.get("EVERGREEN_HOME", ".evergreen")).absolute()
    storage_url, storage_endpoint_url = storage(environ)
    return Settings(
        home=home,
        models_dir=Path(environ.get("EVERGREEN_MODELS", "models")).absolute(),
        database_url=environ.get("EVERGREEN_DATABASE_URL", f"sqlite:///{home / 'evergreen.db'}"),
        mlflow_uri=environ.get("EVERGREEN_MLFLOW_URI", f"sqlite:///{home / 'mlflow.db'}"),
        data_remote_url=environ.get("EVERGREEN_DATA_REMOTE_URL") or None,
        data_remote_endpoint_url=environ.get("EVERGREEN_DATA_REMOTE_ENDPOINT_URL") or None,
        threads=int(number_from(environ, "EVERGREEN_THREADS", 2, minimum=1)),
        deploy_timeout_seconds=number_from(environ, "EVERGREEN_DEPLOY_TIMEOUT_SECONDS", 60, minimum=0),
        storage_url=storage_url,
        storage_endpoint_url=storage_endpoint_url,
    )


def number_from(environ: Mapping[str, str], name: str, default: float, *, minimum: float) -> float:
    """A number from the environment. Raises BadConfiguration for what is none, or below the minimum."""
    text = environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise BadConfiguration(f"{name}={text!r} is not a number; unset it for the default {default:g}") from None
    if not minimum <= value < 1e9:
        raise BadConfiguration(f"{name}={text} must be at least {minimum:g}")
    return value


def secret(name: str, environ: MutableMapping[str, str] = os.environ) -> str:
    """An address or password that a model file names but does not hold.

    Raises BadConfiguration where the variable is not set.

    >>> secret("WAREHOUSE_URL", {"WAREHOUSE_URL": "postgresql://warehouse/sales"})
    'postgresql://warehouse/sales'
    """
    value = environ.get(name)
    if not value:
        raise BadConfiguration(f"the environment variable {name} is not set; the model file names it as an address")
    return value


@dataclass(frozen=True)
class ReceiverSettings:
    """Whom the receiver believes, and where Airflow is."""

    secret: str = field(repr=False)
    airflow_url: str
    user: str | None
    """None: this Airflow gives its token to everybody."""
    password: str | None = field(repr=False)


def receiver_settings(environ: MutableMapping[str, str] = os.environ) -> ReceiverSettings:
    """Read the environment. Raises BadConfiguration where the secret is missing or short, and for half a log-in.

    >>> receiver_settings({"EVERGREEN_ALERT_SECRET": "x" * 16}).airflow_url
    'http://127.0.0.1:8080'
    """
    secret = environ.get("EVERGREEN_ALERT_SECRET", "")
    if len(secret) < MIN_SECRET_CHARACTERS:
        raise BadConfiguration(
            f"EVERGREEN_ALERT_SECRET must have at least {MIN_SECRET_CHARACTERS} characters, the same for Alertmanager; "
            "make one with `openssl rand -hex 24`"
        )
    user, password = environ.get("EVERGREEN_AIRFLOW_USER") or None, environ.get("EVERGREEN_AIRFLOW_PASSWORD") or None
    if (user is None) != (password is None):
        raise BadConfiguration("set both EVERGREEN_AIRFLOW_USER and EVERGREEN_AIRFLOW_PASSWORD, or neither")
    url = environ.get("EVERGREEN_AIRFLOW_URL", "http://127.0.0.1:8080").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise BadConfiguration(f"EVERGREEN_AIRFLOW_URL={url} is not an http or https address")
    return ReceiverSettings(secret, url, user, password)


@dataclass(frozen=True)
class NotificationSettings:
    """Where to tell people. Each channel is optional."""

    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    slack_url: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    """smtp://USER:PASSWORD@HOST:PORT (STARTTLS where there is a password) or smtps:// (TLS from the start)."""
    email_from: str | None = None
    email_to: tuple[str, ...] = ()


def notification_settings(environ: MutableMapping[str, str] = os.environ) -> NotificationSettings:
    """Read the environment. Raises BadConfiguration for half a channel and for an address that is none.

    >>> notification_settings({}) == NotificationSettings()
    True
    """

    def given(name: str) -> str | None:
        return environ.get(f"EVERGREEN_NOTIFY_{name}") or None

    settings = NotificationSettings(
        given("WEBHOOK_URL"), given("WEBHOOK_SECRET"), given("SLACK_URL"), given("SMTP_URL"), given("EMAIL_FROM"),
        tuple(to.strip() for to in (given("EMAIL_TO") or "").split(",") if to.strip()),
    )  # fmt: skip
    if (settings.webhook_url is None) != (settings.webhook_secret is None):
        raise BadConfiguration("set both EVERGREEN_NOTIFY_WEBHOOK_URL and EVERGREEN_NOTIFY_WEBHOOK_SECRET, or neither")
    if len({settings.smtp_url is None, settings.email_from is None, not settings.email_to}) > 1:
        raise BadConfiguration(
            "mail needs all of EVERGREEN_NOTIFY_SMTP_URL, EVERGREEN_NOTIFY_EMAIL_FROM and EVERGREEN_NOTIFY_EMAIL_TO"
        )
    _check_address("EVERGREEN_NOTIFY_WEBHOOK_URL", settings.webhook_url, ("http", "https"))
    _check_address("EVERGREEN_NOTIFY_SLACK_URL", settings.slack_url, ("http", "https"))
    _check_address("EVERGREEN_NOTIFY_SMTP_URL", settings.smtp_url, ("smtp", "smtps"))
    return settings


def _check_address(name: str, address: str | None, schemes: tuple[str, ...]) -> None:
    """The address itself is not said: it can hold a password."""
    if address is None:
        return
    try:
        parts = urlsplit(address)
        known = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise BadConfiguration(f"{name} is no address of the form {schemes[0]}://HOST[:PORT]")
