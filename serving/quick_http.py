"""HTTP as uvicorn speaks it, without a task for each request that is answered by one wait.

An ASGI task with its messages costs a prediction more than its model does. Where a door is quick (`front.Quick`), its
first half is called when the request is whole, and the answer is written in one piece when the wait is over. Parsing,
pipelining, time-outs and the end of connections stay uvicorn's; what is no quick door, is large, waits for
`100-continue`, or comes over a connection whose caller does not read, goes the usual way.

Stands on `_start_asgi_task` and the request cycle of uvicorn 0.54, which its next version may name otherwise: a test
asks for answers through both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.front import Door, Front, Reply

Waiting = tuple[RequestResponseCycle, Any, Door, Mapping[str, str]]
"""The request, the application, and where in it the request is answered."""


class QuickHttp(HttpToolsProtocol):
    """One connection."""

    _waiting: Waiting | None = None
    """The request that is quick, until it is whole."""
    _beginning = False
    """Whether its first half is at work."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        found = None
        if isinstance(app, Front) and not cycle.waiting_for_100_continue and not self.flow.write_paused:
            found = app.quick_door(cycle.scope)
        if found is None:
            super()._start_asgi_task(cycle, app)
            return
        self._waiting = (cycle, app, *found)
        if not cycle.more_body:  # it waited behind another one
            self._begin(self._waiting)

    def on_body(self, body: bytes) -> None:
        """A part of the body; a large one is read by a task, as fast as it can take it."""
        super().on_body(body)
        waiting = self._waiting
        if waiting is not None and waiting[0] is self.cycle and len(self.cycle.body) > HIGH_WATER_LIMIT:
            self._waiting = None
            super()._start_asgi_task(self.cycle, waiting[1])

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        if self._waiting is not None and self._waiting[0] is self.cycle:
            self._begin(self._waiting)

    def _begin(self, waiting: Waiting) -> None:
        cycle, front, door, variables = waiting
        self._waiting, self._beginning = None, True
        front.begin(door, variables, cycle.scope, bytes(cycle.body), partial(self._done, cycle))
        self._beginning = False

    def _done(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        if self._beginning:
            # Refused at once. The end of an answer begins the next request in line: many refused ones in line would
            # each begin inside of the one before.
            self.loop.call_soon(self._finish, cycle, reply)
        else:
            self._finish(cycle, reply)

    def _finish(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        """Write the answer, in one piece."""
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected:
            return
        parts = [STATUS_LINE[reply.status]]
        for name, value in (*cycle.default_headers, *reply.headers):
            parts += [name, b": ", value, b"\r\n"]
        parts += [b"content-type: ", reply.content_type, b"\r\ncontent-length: ", str(len(reply.body)).encode()]
        parts += [b"\r\n\r\n" if cycle.keep_alive else b"\r\nconnection: close\r\n\r\n", reply.body]
        self.transport.write(b"".join(parts))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
