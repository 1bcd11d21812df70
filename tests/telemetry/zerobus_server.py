"""A Zerobus endpoint on loopback: the gRPC stream and the token endpoint its SDK speaks to, and its bad days."""

import http.server
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "databricks.zerobus"
INT64, BOOL, STRING, BYTES, MESSAGE, ENUM = 3, 8, 9, 12, 11, 5
# Message: fields as (name, number, type, message type, repeated). The record type is an enum, read as its int32.
MESSAGES: dict[str, list[tuple[str, int, int, str, bool]]] = {
    "CreateIngestStreamRequest": [("table_name", 1, STRING, "", False), ("record_type", 4, ENUM, "", False)],
    "IngestRecordRequest": [("offset_id", 1, INT64, "", False), ("json_record", 3, STRING, "", False)],
    "JsonBatch": [("records", 1, STRING, "", True)],
    "IngestRecordBatchRequest": [("offset_id", 1, INT64, "", False), ("json_batch", 3, MESSAGE, "JsonBatch", False)],
    "EphemeralStreamRequest": [
        ("create_stream", 1, MESSAGE, "CreateIngestStreamRequest", False),
        ("ingest_record", 2, MESSAGE, "IngestRecordRequest", False),
        ("ingest_record_batch", 3, MESSAGE, "IngestRecordBatchRequest", False),
    ],
    "CreateIngestStreamResponse": [("stream_id", 1, STRING, "", False)],
    "IngestRecordResponse": [("durability_ack_up_to_offset", 1, INT64, "", False)],
    "EphemeralStreamResponse": [
        ("create_stream_response", 1, MESSAGE, "CreateIngestStreamResponse", False),
        ("ingest_record_response", 2, MESSAGE, "IngestRecordResponse", False),
    ],
}


def message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="zerobus_fake.proto", package=PACKAGE, syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, type_name, repeated in fields:
            message.field.add(
                name=field_name, number=number, type=kind, label=3 if repeated else 1,
                type_name=f".{PACKAGE}.{type_name}" if type_name else None,
            )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


@dataclass
class ZerobusServer:
    """`break_after` submissions the stream is cut, once, after keeping but before acknowledging them. `token_status`
    is what the token endpoint answers."""

    endpoint: str = ""
    workspace_url: str = ""
    break_after: int | None = None
    refuse: grpc.StatusCode | None = None
    token_status: int = 200
    silent: bool = False
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    streams: int = 0

    def spans(self) -> list[dict[str, Any]]:
        return [row for table, row in self.received if table.endswith("_otel_spans")]

    def names(self) -> list[str]:
        return [row["name"] for row in self.spans()]


@contextmanager
def zerobus_server() -> Iterator[ZerobusServer]:
    state = ZerobusServer()
    classes = message_classes()
    Request, Response = classes["EphemeralStreamRequest"], classes["EphemeralStreamResponse"]

    def stream(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.send_initial_metadata(())
        state.streams += 1
        table = ""
        for request in requests:
            if request.HasField("create_stream"):
                table = request.create_stream.table_name
                answer = Response()
                answer.create_stream_response.stream_id = f"stream-{state.streams}"
                yield answer
                continue
            if state.refuse is not None:
                context.abort(state.refuse, "refused by the test")
            if request.HasField("ingest_record"):
                offset, records = request.ingest_record.offset_id, [request.ingest_record.json_record]
            else:
                offset = request.ingest_record_batch.offset_id
                records = request.ingest_record_batch.json_batch.records
            state.received += [(table, json.loads(record)) for record in records]
            if state.break_after is not None:
                state.break_after -= 1
                if state.break_after <= 0:
                    state.break_after = None
                    context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
            if not state.silent:
                answer = Response()
                answer.ingest_record_response.durability_ack_up_to_offset = offset
                yield answer

    class Tokens(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = json.dumps({"access_token": "t", "token_type": "Bearer", "expires_in": 3600}).encode()
            self.send_response(state.token_status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    handler = grpc.stream_stream_rpc_method_handler(
        stream, request_deserializer=Request.FromString, response_serializer=Response.SerializeToString
    )
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 16 << 20)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("databricks.zerobus.Zerobus", {"EphemeralStream": handler}),)
    )
    state.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    tokens = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=tokens.serve_forever, daemon=True).start()
    state.workspace_url = f"http://127.0.0.1:{tokens.server_port}"
    try:
        yield state
    finally:
        server.stop(None).wait()
        tokens.shutdown()
        tokens.server_close()
