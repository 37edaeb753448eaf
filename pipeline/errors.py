"""What can go wrong, as one family; every message says what, where, and what to do next.

EvergreenError
 ├─ BadConfiguration      a model file, a flag or an environment variable           exit 2
 ├─ BadData               the table cannot be used as it is                         exit 1
 │   ├─ SourceUnreadable  missing, empty, wrong separator, wrong encoding, ...
 │   ├─ SchemaChanged     a column appeared, vanished or changed its type
 │   ├─ NotEnoughData     nothing left to train or to judge on at this cut-off
 │   └─ DataRefused       too many rows in quarantine, or an expectation broken
 ├─ OutsideFailure        a disk, a tracking server, a data remote, a database      exit 1
 ├─ PackageInvalid        a model package is damaged or does not reproduce its golden rows   exit 1
 ├─ DeploymentFailed      servers did not take the new version; the old one stays   exit 1
 └─ RefusedByGate         the candidate may not become champion                     exit 3

They are caught only at the shells: the command line, an HTTP handler, an Airflow task.
"""


class EvergreenError(Exception):
    """Base of the family. `exit_code` is what the command line ends with."""

    exit_code = 1


class BadConfiguration(EvergreenError):
    """A model file, a flag or an environment variable cannot be used."""

    exit_code = 2


class BadData(EvergreenError):
    """The table cannot be used as it is."""


class SourceUnreadable(BadData):
    """The source is missing, empty, or not in the stated form."""


class SchemaChanged(BadData):
    """A column appeared, vanished or changed its type against the pinned schema."""


class NotEnoughData(BadData):
    """Too few rows are left at this cut-off to train or to judge on."""


class DataRefused(BadData):
    """Too many rows went to quarantine, or a table-level expectation is broken."""


class OutsideFailure(EvergreenError):
    """A disk, a tracking server, a data remote or a database failed."""


class PackageInvalid(EvergreenError):
    """A model package is damaged, or does not reproduce its golden rows."""


class DeploymentFailed(EvergreenError):
    """The servers did not take the new version; the old one still answers."""


class RefusedByGate(EvergreenError):
    """The candidate may not become champion."""

    exit_code = 3
