"""A real model's answers, recorded once and replayed: tests that need no network, no key and no money."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakemesh.redaction import TextRedactor
from lakemesh.testing.model_server import ChatRequest, ModelServer
from lakemesh.testing.wire import error, http

RECORD = "LAKEMESH_RECORD"
TIMEOUT_SECONDS = 300.0
NO_LIMIT = 10_000_000


class RecordedModel(ModelServer):
    """Answers from the file `recording`. With `LAKEMESH_RECORD=1` in the environment (or `record=True`) every request
    goes to `upstream`, an OpenAI-compatible base URL, with `api_key`, and the file is written anew when the block ends.

    A request is known by its path and body. Headers, keys and the address of the upstream are never in the file;
    tokens, passwords, card numbers and e-mail addresses are taken out of requests and answers before they are written,
    and out of a request before it is looked for. One that was not recorded is refused, and named when the block
    ends."""

    def __init__(
        self,
        recording: str | Path,
        *,
        upstream: str | None = None,
        api_key: str | None = None,
        record: bool | None = None,
    ) -> None:
        super().__init__()
        self._file = Path(recording)
        self._upstream = upstream
        self._api_key = api_key
        self._redactor = TextRedactor(("token", "card_number", "email"))
        self.records = os.environ.get(RECORD) == "1" if record is None else record
        self.missing: list[str] = []
        self._kept: list[dict[str, Any]] = []
        self._answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if self.records and upstream is None:
            raise ValueError("To record, say where the model is: upstream='https://.../v1'.")
        if not self.records:
            self._read()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.records:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._kept, indent=1, ensure_ascii=False) + "\n")
        elif self.missing:
            count = len(self.missing)
            raise AssertionError(f"Not in {self._file}: {count} request(s); record with {RECORD}=1: {self.missing[0]}")

    async def chat(self, request: ChatRequest) -> bytes | None:
        return await self._given("/chat/completions", request.body)

    async def answer(self, path: str, body: Mapping[str, Any]) -> bytes | None:
        if path.endswith("/embeddings"):
            return await self._given("/embeddings", body)
        return await super().answer(path, body)

    async def _given(self, path: str, body: Mapping[str, Any]) -> bytes:
        request = self._redacted({"path": path, "body": dict(body)})
        if self.records:
            return await self._record(request, path, body)
        answers = self._answers.get(key_of(request))
        if not answers:
            self.missing.append(json.dumps(request, ensure_ascii=False)[:300])
            return error(400, f"This request was not recorded; record it with {RECORD}=1.")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return http(200, answer["body"].encode(), content_type=answer["content_type"])

    async def _record(self, request: Any, path: str, body: Mapping[str, Any]) -> bytes:
        import httpx

        headers = {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            answer = await client.post(f"{self._upstream}{path}", json=dict(body), headers=headers)
        content_type = answer.headers.get("content-type", "application/json")
        if answer.is_success:
            kept = {"content_type": content_type, "body": self._redacted(answer.text)}
            self._kept.append({"request": request, "answer": kept})
        return http(answer.status_code, answer.content, content_type=content_type)

    def _read(self) -> None:
        if not self._file.exists():
            raise FileNotFoundError(f"There is no recording {self._file}; make it with {RECORD}=1.")
        for one in json.loads(self._file.read_text()):
            self._answers[key_of(one["request"])].append(one["answer"])

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            plain = value.replace(self._api_key, "[api key]") if self._api_key else value
            return self._redactor.redact(plain, NO_LIMIT)
        if isinstance(value, Mapping):
            return {name: self._redacted(one) for name, one in value.items()}
        return [self._redacted(one) for one in value] if isinstance(value, list) else value


def key_of(request: Any) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
