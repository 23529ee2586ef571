"""A real S3 server on loopback, and a proxy before it that misbehaves when told to."""

import itertools
import logging
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from moto.server import ThreadedMotoServer

from percept.config import DownloadConfig

BUCKET = "natural-scenes-twin"
REGION = "us-east-2"
MIB = 1 << 20
HOP = {"host", "connection", "transfer-encoding"}


@dataclass(frozen=True)
class Reply:
    """What the server answered, and how much of it the proxy will let through."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: Callable[[], "Reply"]  # the answer to the same request without its range
    cut: int | None = None  # bytes after which the connection drops
    reset: bool = False  # drop by RST, not by a quiet close
    pause_s: float = 0.0  # before every 16 kB


Fault = Callable[[Reply], Reply]


def drop(after: int, reset: bool = False) -> Fault:
    """Announce the whole body, send `after` bytes, close."""
    return lambda reply: replace(reply, cut=after, reset=reset)


def truncate(n: int) -> Fault:
    """Send `n` bytes and announce just those."""
    return lambda reply: replace(
        reply, body=reply.body[:n], headers={**reply.headers, "content-length": str(n)}
    )


def status(code: int) -> Fault:
    """Answer with an error."""
    return lambda reply: replace(reply, status=code, body=b"", headers={"content-length": "0"})


def claim_size(n: int) -> Fault:
    """Announce another size of the whole object (for HEAD)."""
    return lambda reply: replace(reply, headers={**reply.headers, "content-length": str(n)})


def hide(*names: str) -> Fault:
    """Leave headers out."""
    return lambda reply: replace(
        reply, headers={name: value for name, value in reply.headers.items() if name not in names}
    )


def flip(at: int) -> Fault:
    """Flip one bit of the byte `at` of the body."""
    return lambda reply: replace(
        reply, body=reply.body[:at] + bytes([reply.body[at] ^ 4]) + reply.body[at + 1 :]
    )


def slow(pause_s: float) -> Fault:
    """Pause before every 16 kB."""
    return lambda reply: replace(reply, pause_s=pause_s)


def ignore_range(reply: Reply) -> Reply:
    """Send the whole object, as servers without ranges do."""
    return reply.whole()


def both(first: Fault, second: Fault) -> Fault:
    """One fault after the other, on the same answer."""
    return lambda reply: second(first(reply))


def forever(fault: Fault) -> Iterator[Fault]:
    """The same fault for every request."""
    return itertools.repeat(fault)


@dataclass(frozen=True)
class Served:
    """One request, and the bytes of body that were sent for it."""

    method: str
    key: str
    range: str | None
    status: int
    sent: int
    signed: bool


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `upstream`; the next fault planned for (method, key) spoils the answer."""

    daemon_threads = True

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.served: list[Served] = []
        self._faults: dict[tuple[str, str], Iterator[Fault]] = defaultdict(deque().__iter__)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plan(self, key: str, *faults: Fault | Iterator[Fault], method: str = "GET") -> None:
        """Spoil the next answers for a key: one fault each, or an endless iterator of them."""
        endless = len(faults) == 1 and not callable(faults[0])
        self._faults[method, key] = faults[0] if endless else iter(faults)

    def next_fault(self, method: str, key: str) -> Fault | None:
        with self._lock:
            return next(self._faults[method, key], None)

    def gets(self, key: str) -> list[Served]:
        return [served for served in self.served if (served.method, served.key) == ("GET", key)]

    def sent(self, key: str) -> int:
        return sum(served.sent for served in self.gets(key))


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        reply = self._ask(dict(self.headers))
        fault = self.server.next_fault(self.command, key)
        reply = fault(reply) if fault else reply
        wanted, signed = self.headers.get("Range"), "Authorization" in self.headers
        body = b"" if self.command == "HEAD" else reply.body[: reply.cut]
        # Noted before sending: a client that has its bytes must find the request in the list.
        self.server.served.append(Served(self.command, key, wanted, reply.status, len(body), signed))
        with suppress(ConnectionError):  # a client that was killed hangs up
            self._send(reply, body)

    def _ask(self, headers: dict[str, str]) -> Reply:
        connection = HTTPConnection(*self.server.upstream, timeout=30)
        with suppress(KeyError):
            headers.pop("Host")
        connection.request(self.command, self.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in HOP}
        without = {name: value for name, value in headers.items() if name.lower() != "range"}
        return Reply(answer.status, kept, body, whole=lambda: self._ask(without))

    def _send(self, reply: Reply, body: bytes) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(body), 1 << 14):
            time.sleep(reply.pause_s)
            self.wfile.write(body[start : start + (1 << 14)])
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class S3:
    """The server, what to put into it, and the proxy that readers go through."""

    def __init__(self, address: tuple[str, int], proxy: Proxy) -> None:
        self.proxy = proxy
        options = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"})
        self._client = boto3.client(
            "s3", endpoint_url=f"http://{address[0]}:{address[1]}", region_name=REGION, config=options
        )
        with suppress(self._client.exceptions.BucketAlreadyOwnedByYou):  # moto keeps one state per process
            self._client.create_bucket(
                Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
            )

    def put(self, key: str, data: bytes, public: bool = True, **options: str) -> None:
        acl = "public-read" if public else "private"
        self._client.put_object(Bucket=BUCKET, Key=key, Body=data, ACL=acl, **options)

    def put_in_parts(self, key: str, data: bytes, cuts: tuple[int, ...]) -> None:
        """Upload in parts that end at the bytes `cuts`; all but the last must be at least 5 MiB."""
        upload = self._client.create_multipart_upload(Bucket=BUCKET, Key=key, ACL="public-read")["UploadId"]
        which = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
        bounds = itertools.pairwise((0, *cuts, len(data)))
        etags = [
            self._client.upload_part(**which, PartNumber=number, Body=data[start:stop])["ETag"]
            for number, (start, stop) in enumerate(bounds, 1)
        ]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        self._client.complete_multipart_upload(**which, MultipartUpload={"Parts": parts})

    def cfg(self, **changes: object) -> DownloadConfig:
        defaults = {"endpoint": self.proxy.url, "bucket": BUCKET, "connections": 3, "retries": 2}
        return DownloadConfig(**(defaults | changes))


@contextmanager
def running() -> Iterator[S3]:
    """Start server and proxy on free ports of loopback; stop both at the end."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port())
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield S3(server.get_host_and_port(), proxy)
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()
