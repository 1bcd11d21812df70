"""Model calls as metrics, by OpenTelemetry's semantic conventions for generative AI."""

from opentelemetry.metrics import Meter

from lakemesh.scope import ModelUse

# The boundaries that the conventions advise.
TOKEN_BOUNDARIES = (
    1,
    4,
    16,
    64,
    256,
    1_024,
    4_096,
    16_384,
    65_536,
    262_144,
    1_048_576,
    4_194_304,
    16_777_216,
    67_108_864,
)
SECONDS_BOUNDARIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BOUNDARIES = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class ModelMetrics:
    """Tokens, seconds, time to the first token, and cost."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens used by model calls",
            explicit_bucket_boundaries_advisory=TOKEN_BOUNDARIES,
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Seconds a model call took",
            explicit_bucket_boundaries_advisory=SECONDS_BOUNDARIES,
        )
        self._first_token = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Seconds until the first piece of a streamed answer",
            explicit_bucket_boundaries_advisory=FIRST_TOKEN_BOUNDARIES,
        )
        self._cost = meter.create_counter("lakemesh.model.cost", "USD", "Estimated cost of model calls")

    def used(self, use: ModelUse) -> None:
        attributes = {
            "gen_ai.operation.name": use.operation,
            "gen_ai.provider.name": use.provider,
            "gen_ai.request.model": use.model,
            "lakemesh.endpoint": use.endpoint,
        }
        failed = {**attributes, "error.type": use.error_code} if use.error_code else attributes
        self._seconds.record(use.latency_ms / 1_000, failed)
        if use.first_token_ms is not None:
            self._first_token.record(use.first_token_ms / 1_000, attributes)
        for kind, count in (("input", use.input_tokens), ("output", use.output_tokens)):
            if count:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        if use.cost_usd:
            self._cost.add(use.cost_usd, attributes)
