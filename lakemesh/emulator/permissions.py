"""The Permissions API: access lists of jobs, apps, endpoints and the like. They are kept; nothing asks them."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.identity import body_of

PRINCIPALS = ("user_name", "group_name", "service_principal_name")

Entries = list[dict[str, str]]


def routes(kept: dict[str, Entries], require: Mapping[str, Callable[[str], object]]) -> APIRouter:
    """`require` has, by kind, what raises `ApiError` for an object that is not there."""
    router = APIRouter(prefix="/api/2.0/permissions")

    def described(kind: str, object_id: str) -> dict[str, Any]:
        if kind in require:
            require[kind](object_id)
        entries = [
            {name: value for name, value in entry.items() if name in PRINCIPALS}
            | {"all_permissions": [{"permission_level": entry["permission_level"], "inherited": False}]}
            for entry in kept.get(f"{kind}/{object_id}", [])
        ]
        return {"object_id": f"/{kind}/{object_id}", "object_type": kind, "access_control_list": entries}

    @router.get("/{kind}/{object_id}")
    async def get(kind: str, object_id: str) -> dict[str, Any]:
        return described(kind, object_id)

    @router.put("/{kind}/{object_id}")
    async def replace(kind: str, object_id: str, request: Request) -> dict[str, Any]:
        kept[f"{kind}/{object_id}"] = body_of(await request.body()).get("access_control_list") or []
        return described(kind, object_id)

    @router.patch("/{kind}/{object_id}")
    async def change(kind: str, object_id: str, request: Request) -> dict[str, Any]:
        entries = {principal_of(entry): entry for entry in kept.get(f"{kind}/{object_id}", [])}
        for entry in body_of(await request.body()).get("access_control_list") or []:
            entries[principal_of(entry)] = entry
        kept[f"{kind}/{object_id}"] = list(entries.values())
        return described(kind, object_id)

    return router


def principal_of(entry: dict[str, str]) -> str:
    return next((entry[name] for name in PRINCIPALS if name in entry), "")
