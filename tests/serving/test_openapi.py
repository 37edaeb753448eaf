"""The OpenAPI document is complete and true: schemathesis finds nothing, and its examples run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from serving.keys import hashed
from tests.serving.live_service import serving

HERE = Path(__file__).parent
TOKEN, KEY = "the-admin-token-of-this-test", "the-key-of-this-test"
DOORS = {
    "/predict", "/models/churn/predict", "/feedback", "/v1/models/churn:predict", "/v1/models/churn",
    "/v1/models/churn/metadata", "/v1/models/churn/versions/{version}:predict", "/v2", "/v2/models/churn",
    "/v2/models/churn/infer", "/v2/models/churn/ready", "/v2/health/live", "/v2/health/ready", "/invocations",
    "/ping", "/version", "/arrow", "/models/churn/arrow", "/health", "/ready", "/metrics", "/admin/reload",
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(churn):
    """A server that asks for a key, with /admin."""
    environ = {"EVERGREEN_API_KEYS": hashed(KEY), "EVERGREEN_ADMIN_TOKEN": TOKEN}
    with serving(churn.settings, environ=environ) as address:
        yield address


def examples(document):
    """Method, path, content type and value of every example."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                for name, example in content.get("examples", {}).items():
                    yield f"{method} {path} {name}", path.replace("{version}", "1"), kind, example["value"]


def test_every_door_is_in_the_document_and_every_example_is_answered(live):
    document = httpx.get(f"{live.address}/openapi.json").json()
    assert set(document["paths"]) >= DOORS
    ran = 0
    for name, path, kind, value in examples(document):
        content = {"content": value} if isinstance(value, str) else {"json": value}
        reply = httpx.post(f"{live.address}{path}", **content, headers={"content-type": kind})
        assert reply.status_code == 200, (name, reply.text)
        ran += 1
    assert ran >= 20


def test_the_document_follows_what_is_deployed(settings, churn):
    with serving(settings) as address:
        document = httpx.get(f"{address}/openapi.json").json()
        assert "/models/{model}/predict" in document["paths"]
        assert "securitySchemes" not in document["components"] or "key" not in document["components"]["securitySchemes"]
    with serving(churn.settings) as address:
        features = httpx.get(f"{address}/openapi.json").json()["paths"]["/models/churn/predict"]["post"]["requestBody"][
            "content"
        ]["application/json"]["schema"]["properties"]["features"]
        named = features["anyOf"][0]
        assert list(named["properties"]) == named["required"] == ["tenure", "charge", "plan"]
        assert "basic, family, plus" in named["properties"]["plan"]["description"]


@pytest.mark.timeout(180)
def test_schemathesis_finds_nothing_with_all_its_checks(guarded, tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run",
         f"{guarded}/openapi.json", "-H", f"Authorization: Bearer {TOKEN}", "-H", f"X-API-Key: {KEY}", "--no-color"],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])}, cwd=tmp_path, capture_output=True, text=True,
        timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "No issues found" in done.stdout
    assert httpx.get(f"{guarded}/ready").status_code == 200


def test_the_page_of_the_document_works_without_foreign_hosts(live):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("the Debian package chromium is not installed")
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{live.address}/docs")
        expect(page.get_by_text("/v2/models/churn/infer", exact=False).first).to_be_visible()
        expect(page.get_by_text("/invocations").first).to_be_visible()
        browser.close()
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {live.address.removeprefix("http://")}
