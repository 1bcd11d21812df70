from pathlib import Path

import yaml
from morning import report

from lakemesh.testing import serve

HERE = Path(__file__).parent
ORDERS = HERE / "data/orders.csv"


def test_the_report_of_a_day_is_made_once() -> None:
    with serve(HERE / "config", tables={"main.sales.orders": ORDERS}) as server:
        assert report(server.url, "2026-03-01") == "2026-03-01: 2 orders, 20.00 in all."
        assert report(server.url, "2026-03-01") == "2026-03-01: 2 orders, 20.00 in all."
        assert len(server.executions("reporter")) == 1


def test_the_job_starts_the_same_program() -> None:
    [job] = yaml.safe_load((HERE / "resources/schedule.yml").read_text())["resources"]["jobs"].values()
    file = job["tasks"][0]["spark_python_task"]["python_file"]
    assert (HERE / "resources" / file).resolve() == HERE / "morning.py"
