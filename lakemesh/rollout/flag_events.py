"""What was decided of a flag, in the trace: OpenTelemetry's event `feature_flag.evaluation`."""

from openfeature.flag_evaluation import FlagEvaluationDetails, FlagValueType
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.telemetry import create_evaluation_event
from opentelemetry import trace


class FlagEvents(Hook):
    def finally_after(
        self, hook_context: HookContext, details: FlagEvaluationDetails[FlagValueType], hints: HookHints
    ) -> None:
        event = create_evaluation_event(hook_context, details)
        attributes = {str(key.value): str(value) for key, value in event.attributes.items()}
        trace.get_current_span().add_event(event.name, attributes)
