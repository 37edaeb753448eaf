"""What schemathesis does not know by itself."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/vnd.apache.arrow.stream")
def arrow(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A stream is sent as the bytes that it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def only_a_deadline_is_answered_504(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """The only answer above 499 is that of a deadline that the request named."""
    if response.status_code == 504:
        named = {name.lower() for name in case.headers}
        assert "x-request-timeout-ms" in named, "504 without a deadline"
