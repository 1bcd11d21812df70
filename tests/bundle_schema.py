"""The Databricks CLI's own schema of bundles, where it is at hand."""

import json
import os
from pathlib import Path

import jsonschema
import pytest

SCHEMA = os.environ.get("LAKEMESH_BUNDLE_SCHEMA")


def validator() -> jsonschema.Draft202012Validator:
    if SCHEMA is None:
        pytest.skip("set LAKEMESH_BUNDLE_SCHEMA to `databricks bundle schema`'s output")
    text = Path(SCHEMA).read_text()
    # Python's `re` has no Unicode classes by name, and no sets within sets.
    for named, known in ((r"\\p{L}", r"[^\\W\\d_]"), (r"\\p{N}", r"\\d"), (r"[[^\\W\\d_]\\d]", r"[^\\W_]")):
        text = text.replace(named, known)
    return jsonschema.Draft202012Validator(json.loads(text))
