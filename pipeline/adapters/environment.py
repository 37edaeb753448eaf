"""What code and libraries a result was made with: part of every key, and written on every run."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import pipeline

RESULT_LIBRARIES = (
    "duckdb",
    "great-expectations",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skops",
    "treelite",
)
"""Libraries whose version can change a result."""


@functools.cache
def code_digest() -> str:
    """SHA-256 over the sources of the pipeline: other code, other outputs."""
    root = Path(pipeline.__file__).parent
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".j2")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:32]


@functools.cache
def library_versions() -> dict[str, str]:
    """Python and the libraries that can change a result, with their versions."""
    versions = {"python": platform.python_version()}
    for name in RESULT_LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def installed_packages() -> list[str]:
    """Every installed distribution as NAME==VERSION, sorted."""
    return sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}, key=str.lower)


@functools.cache
def code_version() -> str:
    """The git commit of the code, with `-dirty` where files differ from it; `unknown` outside a checkout."""
    root = Path(pipeline.__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
