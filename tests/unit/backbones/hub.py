"""A small server that answers as the Hugging Face hub does, and can be told to misbehave."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".safetensors", ".bin", ".pth", ".tar")  # what the hub keeps outside git


@dataclass
class Hub:
    """Repositories by commit, and faults to commit.

    `cut`: bytes after which an answer for a path ends too early, one entry for each request, while they last.
    `fail`: codes of HTTP that a path is answered with, likewise.
    """

    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)  # (repository, commit)
    heads: dict[str, str] = field(default_factory=dict)  # repository -> commit of main
    cut: dict[str, list[int]] = field(default_factory=dict)
    fail: dict[str, list[int]] = field(default_factory=dict)
    lies: dict[str, dict] = field(default_factory=dict)  # path -> what its listing claims instead
    resumable: bool = True
    wrong_commit: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)  # path, range

    def add(self, repository, commit, files):
        self.files[repository, commit] = files
        self.heads[repository] = commit

    def listing(self, repository, revision):
        commit = self.heads.get(repository) if revision == "main" else revision
        files = self.files.get((repository, commit))
        if files is None:
            return None
        siblings = [self._sibling(*item) for item in files.items()]
        return {"id": repository, "sha": self.wrong_commit or commit, "siblings": siblings}

    def _sibling(self, path, content):
        sibling = {"rfilename": path, "size": len(content)}
        if path.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        sibling["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return sibling | self.lies.get(path, {})


class Handler(BaseHTTPRequestHandler):
    """The listing, and files behind a redirection, as the hub sends large ones."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            found = self.hub.listing(repository, revision) if query == "blobs=true" else None
            return self._send(200 if found else 404, json.dumps(found).encode())
        if not path.startswith("/cdn/"):
            return self._redirect("/cdn" + path)
        repository, _, rest = path.removeprefix("/cdn/").partition("/resolve/")
        commit, _, file = rest.partition("/")
        content = self.hub.files.get((repository, commit), {}).get(file)
        return self._send(404, b"") if content is None else self._file(file, content)

    def _redirect(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path, content):
        asked = self.headers.get("Range", "")
        self.hub.requests.append((path, asked))
        if codes := self.hub.fail.get(path):
            return self._send(codes.pop(0), b"")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.hub.resumable else 0
        if start >= len(content) > 0:
            return self._send(416, b"")
        cuts = self.hub.cut.get(path)
        self._send(206 if start else 200, content[start:], cuts.pop(0) if cuts else None)

    def _send(self, code, body, cut=None):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def serve(hub):
    """A running server of `hub`; returns it and its address."""
    handler = type("Handler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"
