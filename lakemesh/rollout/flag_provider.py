"""Our OpenFeature provider: flags of the configuration, in flagd's form, evaluated by flagd's own rules."""

from collections.abc import Mapping, Sequence

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from lakemesh.config.rollouts import FlagsConfig
from lakemesh.errors import ConfigurationInvalid

Structure = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class ConfiguredFlags(AbstractProvider):
    """Raises `ConfigurationInvalid` for a definition that is none."""

    def __init__(self, config: FlagsConfig) -> None:
        super().__init__()
        self._core = FlagdCore()
        faults = []
        for key, definition in config.definitions.items():
            try:
                self._core.set_flags({"flags": {key: definition}, "$evaluators": config.evaluators})
            except (OpenFeatureError, ValueError, TypeError, KeyError) as error:
                faults.append(f"flags.definitions.{key}: {getattr(error, 'error_message', None) or error}")
        if faults:
            raise ConfigurationInvalid(faults)
        self._core.set_flags({"flags": config.definitions, "$evaluators": config.evaluators})

    def get_metadata(self) -> Metadata:
        return Metadata(name="lakemesh")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._core.resolve_string_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self, flag_key: str, default_value: Structure, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[Structure]:
        return self._core.resolve_object_value(flag_key, default_value, evaluation_context)
