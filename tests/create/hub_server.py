"""A stand-in for the Hugging Face hub: what its library asks of it, over HTTP on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0de"
OLDER = "0123456789" * 4
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "old": OLDER, OLDER: OLDER}


@dataclass
class Hub:
    """`repositories`: id to files. `cut`: how many bytes of each large answer come before the line breaks."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # id to status and X-Error-Code
    revisions: dict[str, str] = field(
        default_factory=lambda: {"main": COMMIT, COMMIT: COMMIT, "old": OLDER, OLDER: OLDER}
    )
    token: str | None = None
    cut: int | None = None
    deaf_to_ranges: bool = False
    lies: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # method, path and range of every request

    def gets(self) -> list[str]:
        """The files that were asked for."""
        return [line.removeprefix("GET ").split("/resolve/")[1] for line in self.asked if "/resolve/" in line]


def info(name: str, files: dict[str, bytes], commit: str) -> dict[str, Any]:
    siblings = []
    for path, data in files.items():
        sibling: dict[str, Any] = {"rfilename": path, "size": len(data)}
        sibling["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        if path.endswith((".gguf", ".safetensors")):
            sibling["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
        siblings.append(sibling)
    return {"id": name, "modelId": name, "sha": commit, "private": False, "tags": [], "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, span = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
        self.hub.asked.append(f"{self.command} {path}{f' {span}' if span else ''}")
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name in self.hub.refused:
            return self._say(*self.hub.refused[name])
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._say(401, "RepoNotFound")
        files = self.hub.repositories.get(name)
        if files is None:
            return self._say(404, "RepoNotFound")
        revision = "/".join(parts[5:]) or "main" if parts[0] == "api" else parts[3]
        commit = self.hub.revisions.get(revision)
        if commit is None:
            return self._say(404, "RevisionNotFound")
        if parts[0] == "api":
            return self._send(json.dumps(info(name, files, commit)).encode(), {"Content-Type": "application/json"})
        file = "/".join(parts[4:])
        if file not in files:
            return self._say(404, "EntryNotFound")
        return self._file(self.hub.lies.get(file, files[file]), commit, span)

    def _file(self, data: bytes, commit: str, span: str) -> None:
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not span or self.hub.deaf_to_ranges:
            return self._send(data, headers, cut=self.hub.cut)
        first = int(span.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        return self._send(data[first:], headers, 206, self.hub.cut)

    def _say(self, status: int, code: str) -> None:
        self._send(b"", {"X-Error-Code": code, "X-Error-Message": "no"}, status)

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is not None and len(body) > cut:
            self.wfile.write(body[:cut])
            self.close_connection = True
            return
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that listens on a port of its own until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
