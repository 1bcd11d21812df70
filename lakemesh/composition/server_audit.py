"""What changes of the server itself, for the audit trail: its starts, its configuration, its prompts."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from lakemesh import __version__
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.config.store import ConfigStore
from lakemesh.governance.audit import change_of
from lakemesh.prompts import PromptStore
from lakemesh.telemetry.audit_chain import AuditRecord

Record = Callable[[AuditRecord], None]


def audit_server(settings: Settings, config: ConfigStore, prompts: PromptStore, record: Record) -> None:
    """Each start is a deployment in force: which release, with which configuration and prompts. From then on, what
    changes of them."""
    details: dict[str, Any] = {
        "version": __version__,
        "environment": settings.environment,
        "prompts": prompts.list_versions(),
        "digest": digest_of(config.current),
    }
    record(change_of("deployment", settings.app_name or settings.config, "started", **details))
    config.subscribe(lambda new: record(change_of("configuration", settings.config, "in force", digest=digest_of(new))))
    prompts.subscribe(PromptAudit(prompts, record).note)


def digest_of(config: Config) -> str:
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()


class PromptAudit:
    """Compares what there is with what there was. Texts are told by their digests."""

    def __init__(self, prompts: PromptStore, record: Record) -> None:
        self._prompts = prompts
        self._record = record
        self._known = self._now()

    def note(self) -> None:
        """Called after a refresh that changed something."""
        before, self._known = self._known, self._now()
        for name in sorted(before.keys() | self._known.keys()):
            if before.get(name) != self._known.get(name):
                self._record(change_of("prompt", name, "in force", **self._known.get(name, {"versions": {}})))

    def _now(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            name: {
                "versions": {
                    str(version): hashlib.sha256(self._prompts.get(name, version).source.encode()).hexdigest()
                    for version in versions
                },
                "selection": self._prompts.selection(name).model_dump(mode="json", exclude_defaults=True),
            }
            for name, versions in self._prompts.list_versions().items()
        }
