"""An agent as MLflow's `ResponsesAgent`. MLflow must be installed; nothing else here imports it at start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from lakemesh.errors import LakemeshError
from lakemesh.model_serving.package import ARTIFACT
from lakemesh.model_serving.served import Served

CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class LakemeshAgent(ResponsesAgent):  # type: ignore[misc]
    """Answers as the server does at `/api/responses`; the artifact `lakemesh` is the package."""

    _served: Served | None = None

    def load_context(self, context: Any) -> None:
        if self._served is not None:
            self._served.close()
        served = Served(Path(context.artifacts[ARTIFACT]))
        served.open()
        self._served = served

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        try:
            return ResponsesAgentResponse(**self._open_one().respond(sent(request)))
        except LakemeshError as error:
            raise exception_of(error) from error

    def predict_stream(self, request: ResponsesAgentRequest) -> Iterator[ResponsesAgentStreamEvent]:
        try:
            for event in self._open_one().stream(sent(request)):
                yield ResponsesAgentStreamEvent(**event)
        except LakemeshError as error:
            raise exception_of(error) from error

    def _open_one(self) -> Served:
        assert self._served is not None, "MLflow calls load_context first"
        return self._served


def sent(request: ResponsesAgentRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.model_dump(exclude_unset=True, exclude_none=True)
    return found


def exception_of(error: LakemeshError) -> MlflowException:
    """The designed error, with the status that MLflow's server answers."""
    code = CODES.get(error.status, "INTERNAL_ERROR")
    return MlflowException(f"{error.code}: {error.detail}", error_code=code)
