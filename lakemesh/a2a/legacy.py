"""Protocol 0.3 in the words of 1.0, and back: JSON-RPC, and HTTP+JSON, which names many members otherwise.

By the 0.3 specification's `types.json`, and by its `a2a.proto` for HTTP+JSON.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from lakemesh.a2a.errors import InvalidParams
from lakemesh.a2a.wire import ENDED, INTERRUPTED

Json = dict[str, Any]

STATES = {
    "TASK_STATE_SUBMITTED": "submitted",
    "TASK_STATE_WORKING": "working",
    "TASK_STATE_COMPLETED": "completed",
    "TASK_STATE_FAILED": "failed",
    "TASK_STATE_CANCELED": "canceled",
    "TASK_STATE_INPUT_REQUIRED": "input-required",
    "TASK_STATE_REJECTED": "rejected",
    "TASK_STATE_AUTH_REQUIRED": "auth-required",
}
HTTP_STATES = {"TASK_STATE_CANCELED": "TASK_STATE_CANCELLED"}
ROLES = {"user": "ROLE_USER", "agent": "ROLE_AGENT"}
LEGACY_ROLES = {role: name for name, role in ROLES.items()}
WRAPPED = "data_part_compat"
"""The official SDK's mark, in a part's metadata, of data that is no object and was put into one."""
METHODS = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "SubscribeToTask",
    "tasks/pushNotificationConfig/set": "CreateTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/get": "GetTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/list": "ListTaskPushNotificationConfigs",
    "tasks/pushNotificationConfig/delete": "DeleteTaskPushNotificationConfig",
    "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
}


def mapping(value: Any, name: str) -> Json:
    """Raises `InvalidParams` unless it is an object."""
    if not isinstance(value, dict):
        raise InvalidParams(f"'{name}' must be an object.")
    return value


def listing(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidParams(f"'{name}' must be an array.")
    return value


def without_nulls(value: Mapping[str, Any]) -> Json:
    return {name: item for name, item in value.items() if item is not None}


def members(value: Any, name: str) -> Json:
    """An object's members by their names in JSON: 0.3 writes null for what is not there, and its clients over HTTP+JSON
    the proto's names. Raises `InvalidParams`."""
    return {to_camel(key): item for key, item in mapping(value, name).items() if item is not None}


# Requests, from 0.3.


def send_request(params: Any) -> Json:
    """`SendMessage`'s params, of either binding of 0.3."""
    params = mapping(params, "params")
    request: Json = {"message": read_message(params.get("message", params.get("request")))}
    if params.get("metadata"):
        request["metadata"] = params["metadata"]
    configuration = params.get("configuration")
    if configuration is not None:
        request["configuration"] = read_configuration(members(configuration, "configuration"))
    return request


def read_message(value: Any) -> Json:
    message = members(value, "message")
    parts = message.pop("parts", None) or message.pop("content", None) or []
    message["parts"] = [read_part(part) for part in listing(parts, "message.parts")]
    message["role"] = ROLES.get(str(message.get("role")), message.get("role"))
    return message


def read_part(value: Any) -> Json:
    part = members(value, "part")
    metadata = dict(part.get("metadata") or {})
    wrapped = metadata.pop(WRAPPED, False)
    read: Json = {"metadata": metadata} if metadata else {}
    if "text" in part:
        return {"text": part["text"], **read}
    if "file" in part:
        return {**read_file(members(part["file"], "file")), **read}
    data = part.get("data")
    if "kind" not in part and isinstance(data, dict):
        data = data.get("data", data)
    if wrapped and isinstance(data, dict):
        data = data.get("value")
    return {"data": data, **read}


def read_file(file: Json) -> Json:
    read: Json = {"filename": file.get("name") or "", "mediaType": file.get("mimeType") or ""}
    uri = file.get("uri") or file.get("fileWithUri")
    return {**read, **({"url": uri} if uri else {"raw": file.get("bytes") or file.get("fileWithBytes") or ""})}


def read_configuration(value: Json) -> Json:
    """At 0.3 a history length of 0 asks for all, and who does not say waits for the end."""
    configuration: Json = {"returnImmediately": value.get("blocking") is False}
    if value.get("acceptedOutputModes"):
        configuration["acceptedOutputModes"] = value["acceptedOutputModes"]
    if value.get("historyLength"):
        configuration["historyLength"] = value["historyLength"]
    push = value.get("pushNotificationConfig") or value.get("pushNotification")
    if push is not None:
        configuration["taskPushNotificationConfig"] = read_push(push)
    return configuration


def read_push(value: Any) -> Json:
    push = members(value, "pushNotificationConfig")
    authentication = push.pop("authentication", None)
    if authentication:
        authentication = mapping(authentication, "authentication")
        schemes = listing(authentication.get("schemes") or [""], "schemes")
        push["authentication"] = {"scheme": schemes[0], "credentials": authentication.get("credentials") or ""}
    return push


def task_request(params: Any) -> Json:
    """`GetTask`'s and others' params: a task by id."""
    params = without_nulls(mapping(params, "params"))
    return params if params.get("historyLength") else {**params, "historyLength": None}


def new_push_request(params: Any) -> Json:
    params = mapping(params, "params")
    return {**read_push(params.get("pushNotificationConfig")), "taskId": params.get("taskId")}


def push_request(params: Any) -> Json:
    params = mapping(params, "params")
    return {"taskId": params.get("id"), "id": params.get("pushNotificationConfigId") or params.get("id")}


REQUESTS: Mapping[str, Callable[[Any], Json]] = {
    "SendMessage": send_request,
    "SendStreamingMessage": send_request,
    "GetTask": task_request,
    "CancelTask": task_request,
    "SubscribeToTask": task_request,
    "CreateTaskPushNotificationConfig": new_push_request,
    "GetTaskPushNotificationConfig": push_request,
    "DeleteTaskPushNotificationConfig": push_request,
    "ListTaskPushNotificationConfigs": lambda params: {"taskId": mapping(params, "params").get("id")},
    "GetExtendedAgentCard": lambda params: {},
}


# Answers, to JSON-RPC of 0.3.


def legacy_answer(method: str, answer: Any) -> Any:
    match method:
        case "SendMessage" | "SendStreamingMessage" | "SubscribeToTask":
            return legacy_update(answer)
        case "GetTask" | "CancelTask":
            return legacy_task(answer)
        case "CreateTaskPushNotificationConfig" | "GetTaskPushNotificationConfig":
            return legacy_push(answer)
        case "ListTaskPushNotificationConfigs":
            return [legacy_push(config) for config in answer["configs"]]
    return answer


def legacy_update(update: Json) -> Json:
    if "task" in update:
        return legacy_task(update["task"])
    if "message" in update:
        return legacy_message(update["message"])
    if "statusUpdate" in update:
        event = update["statusUpdate"]
        state = event["status"]["state"]
        final = state in ENDED or state in INTERRUPTED
        return {**event, "kind": "status-update", "status": legacy_status(event["status"]), "final": final}
    event = update["artifactUpdate"]
    return {**event, "kind": "artifact-update", "artifact": legacy_artifact(event["artifact"])}


def legacy_task(task: Json) -> Json:
    return {
        **task,
        "kind": "task",
        "status": legacy_status(task["status"]),
        "history": [legacy_message(message) for message in task.get("history", [])],
        "artifacts": [legacy_artifact(artifact) for artifact in task.get("artifacts", [])],
    }


def legacy_status(status: Json) -> Json:
    message = {"message": legacy_message(status["message"])} if "message" in status else {}
    return {**status, **message, "state": STATES[status["state"]]}


def legacy_message(message: Json) -> Json:
    parts = [legacy_part(part) for part in message["parts"]]
    return {**message, "kind": "message", "role": LEGACY_ROLES[message["role"]], "parts": parts}


def legacy_artifact(artifact: Json) -> Json:
    return {**artifact, "parts": [legacy_part(part) for part in artifact["parts"]]}


def legacy_part(part: Json) -> Json:
    metadata = {"metadata": part["metadata"]} if part.get("metadata") else {}
    if "text" in part:
        return {"kind": "text", "text": part["text"], **metadata}
    if "data" in part:
        return {"kind": "data", **legacy_data(part["data"], part.get("metadata") or {})}
    file = {"name": part.get("filename"), "mimeType": part.get("mediaType"), "bytes": part.get("raw")}
    return {"kind": "file", "file": without_nulls({**file, "uri": part.get("url")}), **metadata}


def legacy_data(data: Any, metadata: Json) -> Json:
    if isinstance(data, dict):
        return {"data": data, **({"metadata": metadata} if metadata else {})}
    return {"data": {"value": data}, "metadata": {**metadata, WRAPPED: True}}


def legacy_push(config: Json) -> Json:
    inner = {name: config[name] for name in ("id", "url", "token") if config.get(name)}
    authentication = config.get("authentication")
    if authentication:
        schemes = [authentication["scheme"]] if authentication.get("scheme") else []
        inner["authentication"] = {"schemes": schemes, "credentials": authentication.get("credentials")}
    return {"taskId": config["taskId"], "pushNotificationConfig": inner}


# Answers, to HTTP+JSON of 0.3.


def http_answer(method: str, answer: Any) -> Any:
    match method:
        case "SendMessage" | "SendStreamingMessage" | "SubscribeToTask":
            return http_update(answer)
        case "GetTask" | "CancelTask":
            return http_task(answer)
        case "CreateTaskPushNotificationConfig" | "GetTaskPushNotificationConfig":
            return http_push(answer)
        case "ListTaskPushNotificationConfigs":
            return {"configs": [http_push(config) for config in answer["configs"]]}
    return answer


def http_update(update: Json) -> Json:
    if "task" in update:
        return {"task": http_task(update["task"])}
    if "message" in update:
        return {"message": http_message(update["message"])}
    if "statusUpdate" in update:
        event = update["statusUpdate"]
        state = event["status"]["state"]
        final = state in ENDED or state in INTERRUPTED
        return {"statusUpdate": {**event, "status": http_status(event["status"]), "final": final}}
    event = update["artifactUpdate"]
    return {"artifactUpdate": {**event, "artifact": http_artifact(event["artifact"])}}


def http_task(task: Json) -> Json:
    return {
        **task,
        "status": http_status(task["status"]),
        "history": [http_message(message) for message in task.get("history", [])],
        "artifacts": [http_artifact(artifact) for artifact in task.get("artifacts", [])],
    }


def http_status(status: Json) -> Json:
    message = {"message": http_message(status["message"])} if "message" in status else {}
    return {**status, **message, "state": HTTP_STATES.get(status["state"], status["state"])}


def http_message(message: Json) -> Json:
    rest = {name: item for name, item in message.items() if name not in ("parts", "referenceTaskIds")}
    return {**rest, "content": [http_part(part) for part in message["parts"]]}


def http_artifact(artifact: Json) -> Json:
    return {**artifact, "parts": [http_part(part) for part in artifact["parts"]]}


def http_part(part: Json) -> Json:
    metadata = {"metadata": part["metadata"]} if part.get("metadata") else {}
    if "text" in part:
        return {"text": part["text"], **metadata}
    if "data" in part:
        legacy = legacy_data(part["data"], part.get("metadata") or {})
        return {**legacy, "data": {"data": legacy["data"]}}
    file = {"name": part.get("filename"), "mimeType": part.get("mediaType")}
    file |= {"fileWithUri": part.get("url"), "fileWithBytes": part.get("raw")}
    return {"file": without_nulls(file), **metadata}


def http_push(config: Json) -> Json:
    inner = legacy_push(config)["pushNotificationConfig"]
    name = f"tasks/{config['taskId']}/pushNotificationConfigs/{config['id']}"
    return {"name": name, "pushNotificationConfig": inner}
