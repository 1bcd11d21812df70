"""Requests that were refused before an agent ran: a span and a row each, as far as that is no flood."""

import random
import time

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from lakemesh.errors import LakemeshError
from lakemesh.telemetry.records import ExecutionRecord

ROWS_PER_SECOND = 20.0
BURST = 100.0


class Refusals:
    """Rows of refusals, at most `ROWS_PER_SECOND` after a burst: whoever is refused a thousand times a second must not
    fill the tables of the others. `unrecorded` counts the rest; the metric `lakemesh.refusals` has all of them."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._left = BURST
        self._at = time.monotonic()
        self.unrecorded = 0

    def record(
        self, error: LakemeshError, *, agent: str, user: str, door: str, session_id: str | None, parent: Context | None
    ) -> ExecutionRecord | None:
        """The row, its span ended; None when there were too many."""
        if not self._is_let_through():
            self.unrecorded += 1
            return None
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": agent,
            "user.id": user,
            "lakemesh.door": door,
            "error.type": error.code,
        }
        span = self._tracer.start_span(f"refused {error.code}", parent, SpanKind.SERVER, attributes)
        span.set_status(StatusCode.ERROR, error.code)
        span.end()
        context = span.get_span_context()
        return ExecutionRecord(
            execution_id=f"{random.getrandbits(128):032x}",
            parent_execution_id=None,
            timestamp_ns=time.time_ns(),
            agent_id=agent,
            session_id=session_id,
            user=user,
            door=door,
            trace_id=format(context.trace_id, "032x"),
            span_id=format(context.span_id, "016x"),
            input_data=None,
            output_data=None,
            latency_ms=0.0,
            success=False,
            error_code=error.code,
            error_message=error.detail,
            confidence=None,
            degraded=(),
            model_uses=(),
            prompt_uses=(),
            refused=True,
        )

    def _is_let_through(self) -> bool:
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * ROWS_PER_SECOND)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
