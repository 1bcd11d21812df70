"""`lakemesh demo optimize` from nothing: its steps, and the report it leaves, as a browser shows it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.browser import needs_browser, running_browser
from tests.judge import judged


@judged
@needs_browser
def test_a_poor_prompt_comes_to_serve_and_a_worse_one_is_taken_back(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    command = [sys.executable, "-m", "lakemesh.cli", "demo", "optimize", "--home", str(home)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "version 1: facts 0.00" in said
    assert "the gates fail" in said
    assert "to 1.000 over" in said
    assert "version 2 on the hold-out: facts 1.00, refusal 1.00, forbidden 1.00: the gates pass" in said
    assert "roll_back: by itself" in said
    assert "policy R-1" in said.partition("roll_back")[2], "the champion serves again"
    with running_browser(tmp_path / "profile") as browser, browser.page() as page:
        page.look(width=1_000)
        page.open((home / "report.html").as_uri())
        page.wait_for("document.querySelectorAll('svg').length == 2")
        text = page.evaluate("document.body.innerText")
        for words in ("the gates fail", "Give the policy number that applies.", "roll_back", "half of the sessions"):
            assert words in text
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
        assert page.problems == []
    candidates = json.loads((home / "optimization/candidates.json").read_text())
    assert candidates[-1]["validation"] == 1.0
