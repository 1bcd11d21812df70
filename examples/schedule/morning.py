"""Ask for the day's report, once a day however often it is run."""

import os
import sys

from lakemesh.client import Client


def report(url: str, day: str) -> str:
    with Client(url, token=os.environ.get("LAKEMESH_TOKEN")) as client:
        key = f"morning-report-{day}"
        return client.execute("reporter", {"day": day}, idempotency_key=key, timeout_seconds=60).result["text"]


if __name__ == "__main__":
    print(report(sys.argv[1], sys.argv[2]))  # noqa: T201
