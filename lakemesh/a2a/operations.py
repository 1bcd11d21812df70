"""The protocol's operations by name: what each reads, and what answers it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lakemesh.a2a import wire
from lakemesh.a2a.errors import VersionNotSupported
from lakemesh.a2a.handler import Caller, EngineHandler
from lakemesh.a2a.task_state import Update

VERSION = "1"
VERSION_OF_NONE = "0.3"
"""Protocol 1.0, section 3.6.2: without the header a request is of 0.3."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One of `answer` and `stream` is given."""

    params: type[wire.Wire]
    answer: Callable[[Any, Caller], Awaitable[Any]] | None = None
    stream: Callable[[Any, Caller], AsyncGenerator[Update]] | None = None


def operations_of(handler: EngineHandler) -> Mapping[str, Operation]:
    return {
        "SendMessage": Operation(wire.SendMessage, handler.send_message),
        "SendStreamingMessage": Operation(wire.SendMessage, stream=handler.stream_message),
        "GetTask": Operation(wire.GetTask, handler.get_task),
        "ListTasks": Operation(wire.ListTasks, handler.list_tasks),
        "CancelTask": Operation(wire.TaskId, handler.cancel_task),
        "SubscribeToTask": Operation(wire.TaskId, stream=handler.subscribe_to_task),
        "CreateTaskPushNotificationConfig": Operation(wire.NewPushConfig, handler.create_push_config),
        "GetTaskPushNotificationConfig": Operation(wire.PushConfigId, handler.get_push_config),
        "ListTaskPushNotificationConfigs": Operation(wire.OfTask, handler.list_push_configs),
        "DeleteTaskPushNotificationConfig": Operation(wire.PushConfigId, handler.delete_push_config),
        "GetExtendedAgentCard": Operation(wire.Nothing, handler.get_extended_card),
    }


def require_version(headers: Mapping[str, str], *, legacy: bool) -> None:
    """Raises `VersionNotSupported` for a request whose form is of another version than it says."""
    version = headers.get("a2a-version", VERSION_OF_NONE)
    major = version.partition(".")[0]
    if (version == VERSION_OF_NONE) if legacy else (major == VERSION):
        return
    raise VersionNotSupported(
        f"A2A {version!r:.20} is not spoken here with this method; send A2A-Version: 1.0 or, for 0.3's own, 0.3."
    )
