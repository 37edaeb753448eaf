"""What people serve with otherwise: the tutorial's FastAPI, MLServer, BentoML; and a constant answer as the limit.

Files of this folder's peers hold only what their documentation begins with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HOME = Path(".evergreen/benchmarks").absolute()
PINS = {"mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0"), "bentoml": ("bentoml==1.4.40",)}
"""MLServer 1.7.1 does not start with a later uvloop."""
SHARED = ("scikit-learn", "numpy", "pandas", "joblib")
"""In the versions of this environment, so that every server runs the same model."""

CONSTANT = """
BODY = b'{"prediction":1,"confidence":0.75,"model_version":1,"variant":"champion","prediction_id":"%s"}' % (b"0" * 32)
HEAD = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": BODY})
"""
TUTORIAL = """
import joblib, numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(MODEL)

class Row(BaseModel):
    features: list[float]

@app.post("/predict")
def predict(row: Row):
    x = np.array([row.features])
    return {"prediction": int(model.predict(x)[0]), "confidence": float(model.predict_proba(x).max())}
"""
BENTO = """
import bentoml, joblib, numpy as np

@bentoml.service(workers=2)
class Forest:
    def __init__(self):
        self.model = joblib.load(MODEL)

    @bentoml.api(batchable=True)
    def predict(self, input_data: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(input_data)
"""


@dataclass(frozen=True)
class Peer:
    """How one is started, asked and understood."""

    name: str
    command: list[str]
    path: str
    folder: Path
    environ: dict[str, str]
    body: str = "own"
    """`own`: {"features": [..]}; `tensor`: Open Inference Protocol; `array`: {"input_data": [[..]]}."""


def python_of(name: str) -> Path | None:
    """An interpreter with this peer; None where it cannot be installed."""
    python = HOME / name / "bin" / "python"
    ready = HOME / name / "installed"
    if ready.exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    from importlib.metadata import version

    shared = [f"{one}=={version(one)}" for one in SHARED]
    steps = (
        [str(uv), "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(HOME / name)],
        [str(uv), "pip", "install", "--quiet", "--system-certs", "--python", str(python), *PINS[name], *shared],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False) if uv.exists() else None
        if done is None or done.returncode:
            print(f"  {name} cannot be installed here: {done.stderr.strip().splitlines()[-1:] if done else uv}")
            return None
    ready.touch()
    return python


def uvicorn(name: str, source: str, folder: Path, port: int, workers: int) -> Peer:
    """An application in one file, under uvicorn as we run it."""
    module = name.replace(" ", "_").replace(",", "").lower()
    (folder / f"{module}.py").write_text(source)
    command = [
        sys.executable, "-m", "uvicorn", f"{module}:app", "--port", str(port), "--workers", str(workers),
        "--log-level", "warning", "--no-access-log", "--no-server-header", "--no-proxy-headers",
    ]  # fmt: skip
    return Peer(name, command, "/predict", folder, {})


def mlserver(folder: Path, model: Path, port: int) -> Peer | None:
    """Adaptive batching on, as its documentation shows it."""
    python = python_of("mlserver")
    if python is None:
        return None
    place = folder / "mlserver"
    place.mkdir(exist_ok=True)
    settings = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0}
    (place / "settings.json").write_text(json.dumps({**settings, "debug": False, "host": "127.0.0.1"}))
    (place / "model-settings.json").write_text(json.dumps({
        "name": "forest", "implementation": "mlserver_sklearn.SKLearnModel", "max_batch_size": 64,
        "max_batch_time": 0.005, "parameters": {"uri": str(model), "version": "v1"},
    }))  # fmt: skip
    command = [str(python.with_name("mlserver")), "start", str(place)]
    return Peer("MLServer, adaptive batching", command, "/v2/models/forest/infer", place, {}, "tensor")


def bentoml(folder: Path, model: Path, port: int) -> Peer | None:
    """Batchable, two workers."""
    python = python_of("bentoml")
    if python is None:
        return None
    (folder / "bento_service.py").write_text(f"MODEL = {str(model)!r}\n{BENTO}")
    command = [
        str(python), "-m", "bentoml", "serve", "bento_service:Forest", "--port", str(port), "--host", "127.0.0.1",
    ]  # fmt: skip
    environ = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "bento")}
    return Peer("BentoML, batchable, 2 workers", command, "/predict", folder, environ, "array")
