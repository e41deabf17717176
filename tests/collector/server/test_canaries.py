"""Secrets that a program handles never leave it: through the journal, over the wire, in the database, in every answer and in the
log of the collector, not a byte of them is found."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest

from collector.server.collectors import Collector, collecting
from collector.server.test_access import EXPECTED
from programs import Programs

CANARY = "c4n4ry"
#: Each with the form by which it can be known for a secret.
SECRETS = {
    "argv": f"argv-{CANARY}-1",
    "argv2": f"argv-{CANARY}-2",
    "key": f"AKIA{CANARY.upper()}" + "X7" * 5,
    "hub": "hf_" + CANARY + "Ab" * 15,
    "git": f"git-{CANARY}-3",
    "sign": f"sign{CANARY}4",
    "error": f"error-{CANARY}-5",
    "environment": f"environment-{CANARY}-6",
}
PROGRAM = f"""
import argparse, sys, looptap
looptap.autolog()
parser = argparse.ArgumentParser()
parser.add_argument("--token"); parser.add_argument("--api-key"); parser.add_argument("--lr", type=float)
arguments = parser.parse_args()
looptap.log_params({{"config": {{"password": "{SECRETS["argv"]}", "lr": 0.1}}, "aws": "{SECRETS["key"]}"}})
looptap.log_param("db_password", "{SECRETS["argv"]}")
looptap.log_param("model", "hub {SECRETS["hub"]}")
looptap.log_param("data", "s3://bucket/x?X-Amz-Signature={SECRETS["sign"]}&sig={SECRETS["sign"]}")
looptap.log_param("store", "https://me:{SECRETS["git"]}@example.org/x")
looptap.set_tag("hub", "{SECRETS["hub"]}")
for step in range(5):
    looptap.log_metric("loss", 1.0, step=step)
raise RuntimeError("cannot reach postgresql://me:{SECRETS["error"]}@db/x")
"""


def found_in(content: bytes | str) -> list[str]:
    text = content if isinstance(content, str) else content.decode("latin-1")
    return [name for name, secret in SECRETS.items() if secret in text]


def test_38_and_40_no_secret_leaves_the_program(
    programs: Programs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Canaries in the command line, the environment, params, a tag, the git remote, signed addresses and the exception; and the
    token of the agent itself: none is in the journal, in what the collector keeps, says or logs."""
    for command in (["init", "-q"], ["remote", "add", "origin", f"https://me:{SECRETS['git']}@example.org/x.git"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    # First while nobody is there, so that everything is in the journal.
    environment = {"AWS_SECRET_ACCESS_KEY": SECRETS["environment"], "DB_PASSWORD": SECRETS["environment"]}
    with collecting(tmp_path / "served") as running:
        token, address = running.tokens["ingest"], running.address
        port = int(address.rpartition(":")[2])
    environment |= {"LOOPTAP_STORE": address, "LOOPTAP_TOKEN": token, "LOOPTAP_EXIT_TIMEOUT": "0.5"}
    words = ("--token", SECRETS["argv"], f"--api-key={SECRETS['argv2']}", "--lr", "0.1")
    done = programs.python(PROGRAM, *words, **environment)
    assert done.returncode == 1
    assert "cannot reach" in done.stderr  # the program's own words, its own business
    journals = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in journals)
    SECRETS["token"] = token
    for path in journals:
        assert found_in(path.read_bytes()) == [], path
    caplog.set_level(logging.DEBUG)
    with collecting(tmp_path / "served", port=port) as running:
        synced = programs.looptap("sync", **{**environment, "LOOPTAP_TOKEN": running.tokens["ingest"]})
        assert synced.returncode == 0, synced.stderr
        (run,) = running.store.runs()
        assert run.status == "failed"
        assert "cannot reach" in str(run.error)
        assert_quiet(running, run.run)
    for path in (tmp_path / "served").rglob("*"):
        assert path.is_dir() or found_in(path.read_bytes()) == [], path
    # The client of this test writes a log of its own.
    said = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert found_in("\n".join(said)) == []


def assert_quiet(running: Collector, run: str) -> None:
    """Every question that there is, answered without a secret in it; and a token in an address or in a header is not told back."""
    client = running.client("admin")
    asked = {"run": run, "key": "loss", "filter": "metrics.loss < 5", "token": running.tokens["read"]}
    SECRETS["read"] = running.tokens["read"]
    answers = []
    for method, path in EXPECTED:
        if method in ("GET", "HEAD"):
            address = path.replace("{run:path}", run).replace("{journal:path}", "j").replace("{digest}", "0" * 64)
            answers.append(client.request(method, address, params=asked))
    answers.append(client.get("/v1/runs", params={"details": "true"}))
    wrong = {"authorization": f"Bearer {running.tokens['read']}x"}
    answers.append(running.client(None).get("/v1/runs", headers=wrong))
    assert any(b"cannot reach" in answer.content for answer in answers)
    for answer in answers:
        assert answer.status_code < 500
        assert found_in(answer.content) == [], answer.url
        assert found_in(str(answer.headers)) == [], answer.url
