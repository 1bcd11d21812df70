"""SHOW, DESCRIBE and EXPLAIN: statements that tell about tables, in the few forms both builds have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.names import PART

NAME = r"(?P<name>(?:`[^`]+`|[\w-]+)(?:\s*\.\s*(?:`[^`]+`|[\w-]+)){0,2})"
LIKE = r"(?:\s+(?:LIKE\s+)?'(?P<pattern>[\w*|%. -]+)')?"
FORMS: tuple[tuple[str, str], ...] = (
    ("SHOW CATALOGS", rf"SHOW\s+CATALOGS{LIKE}"),
    ("SHOW SCHEMAS", rf"SHOW\s+(?:SCHEMAS|DATABASES)(?:\s+(?:IN|FROM)\s+{NAME})?{LIKE}"),
    ("SHOW TABLES", rf"SHOW\s+TABLES(?:\s+(?:IN|FROM)\s+{NAME})?{LIKE}"),
    ("SHOW VIEWS", rf"SHOW\s+VIEWS(?:\s+(?:IN|FROM)\s+{NAME})?{LIKE}"),
    ("SHOW COLUMNS", rf"SHOW\s+COLUMNS\s+(?:IN|FROM)\s+{NAME}"),
    ("SHOW CREATE TABLE", rf"SHOW\s+CREATE\s+TABLE\s+{NAME}"),
    ("SHOW TBLPROPERTIES", rf"SHOW\s+TBLPROPERTIES\s+{NAME}"),
    ("SHOW PARTITIONS", rf"SHOW\s+PARTITIONS\s+{NAME}"),
    ("DESCRIBE HISTORY", rf"DESC(?:RIBE)?\s+HISTORY\s+{NAME}(?:\s+LIMIT\s+(?P<limit>\d{{1,6}}))?"),
    ("DESCRIBE DETAIL", rf"DESC(?:RIBE)?\s+DETAIL\s+{NAME}"),
    ("DESCRIBE SCHEMA", rf"DESC(?:RIBE)?\s+(?:SCHEMA|DATABASE)\s+(?:EXTENDED\s+)?{NAME}"),
    ("DESCRIBE TABLE EXTENDED", rf"DESC(?:RIBE)?\s+(?:TABLE\s+)?(?:EXTENDED|FORMATTED)\s+{NAME}"),
    ("DESCRIBE TABLE", rf"DESC(?:RIBE)?\s+(?:TABLE\s+)?{NAME}"),
)
BEGINS = re.compile(r"(?:SHOW|DESC|DESCRIBE)\b", re.IGNORECASE)
JOINERS = {"SHOW SCHEMAS": " IN ", "SHOW TABLES": " IN ", "SHOW VIEWS": " IN ", "SHOW COLUMNS": " IN "}


@dataclass(frozen=True, slots=True)
class Description:
    """What is asked (`DESCRIBE HISTORY`), of what (levels of a name, maybe none), like what."""

    kind: str
    name: tuple[str, ...] = ()
    pattern: str | None = None
    limit: int | None = None

    def render(self) -> str:
        """The statement as Databricks SQL."""
        text = self.kind
        if self.name:
            text += JOINERS.get(self.kind, " ") + ".".join(f"`{part}`" for part in self.name)
        text += f" LIKE '{self.pattern}'" if self.pattern else ""
        return text + (f" LIMIT {self.limit}" if self.limit is not None else "")


def parse_description(text: str) -> Description | None:
    """None for other statements. Raises `InvalidRequest` for a form that is not known, with those that are."""
    stripped = text.strip().rstrip(";").rstrip()
    if not BEGINS.match(stripped):
        return None
    for kind, form in FORMS:
        if found := re.fullmatch(form, stripped, re.IGNORECASE):
            groups = found.groupdict()
            name = tuple(parts(groups["name"])) if groups.get("name") else ()
            limit = int(groups["limit"]) if groups.get("limit") else None
            return Description(kind, name, groups.get("pattern"), limit)
    known = ", ".join(kind for kind, _ in FORMS)
    raise InvalidRequest(f"[PARSE_SYNTAX_ERROR] This form of SHOW or DESCRIBE is not known; there are {known}.")


def parts(name: str) -> Iterator[str]:
    for part in name.split("."):
        plain = part.strip().strip("`").lower()
        if not PART.fullmatch(plain):
            raise InvalidRequest(f"{name!r:.100} is not a name.")
        yield plain
