"""A schema registry for tests: a process that answers as Confluent's does.

Usage: python schema_registry.py FILE [USER]    where FILE holds {path: [status, answer]}
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answers = Mapping[str, tuple[int, Any]]
"""Status and answer by path."""
NOT_FOUND: tuple[int, Any] = 404, {"error_code": 40403, "message": "Schema not found"}


@contextmanager
def registry(
    folder: Path, answers: Answers, *, user: str = "", log: Path | None = None
) -> Iterator[str]:
    """Run a registry and give its address; paths that were asked for are lines of ``log``."""
    file = folder / "answers.json"
    file.write_text(json.dumps(answers))
    command = [sys.executable, __file__, str(file), user]
    with (log or folder / "asked.log").open("wb") as asked:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=asked)
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
            process.communicate()


class _Handler(BaseHTTPRequestHandler):
    answers: Answers
    user: str

    def do_GET(self) -> None:
        wanted = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        status, answer = self.answers.get(self.path, NOT_FOUND)
        if self.user and self.headers.get("Authorization") != wanted:
            status, answer = 401, {"error_code": 401, "message": "Unauthorized"}
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_: object) -> None:
        sys.stderr.write(self.path + "\n")
        sys.stderr.flush()


def main(file: str, user: str = "") -> None:
    _Handler.answers, _Handler.user = json.loads(Path(file).read_text()), user
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
