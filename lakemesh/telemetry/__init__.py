"""What the server observes of itself: OpenTelemetry in, Delta tables out."""

from lakemesh.telemetry.provider import Telemetry
from lakemesh.telemetry.records import ExecutionRecord, FeedbackRecord

__all__ = ["ExecutionRecord", "FeedbackRecord", "Telemetry"]
