"""One door to an S3 bucket: anonymous HEAD and ranged GET, with every failure sorted by what can be done.

`Transient` is worth another attempt, `Changed` asks for a fresh start, and a `Refused` (403, 404) never gets
better by waiting. Amazon's own client would retry whole requests in silence; here its retries are off, so
that a dropped body continues where it stopped and each wait is in the log.
"""

import logging
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from percept.config import DownloadConfig
from percept.files import PerceptError

log = logging.getLogger(__name__)

BLOCK = 1 << 18  # bytes taken from a body at a time: what a dropped connection can lose
CONNECT_TIMEOUT_S = 20.0
READ_TIMEOUT_S = 60.0  # without a single byte; a slow line is not a dead one
BACKOFF_S = 0.5  # the first wait; each further one is twice as long
LONGEST_WAIT_S = 60.0
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP states that another attempt may cure
PASSING_CODES = {"RequestTimeout", "SlowDown", "RequestTimeTooSkewed", "InternalError"}
CONNECTION_FAILURES = (BotoConnectionError, HTTPClientError, IncompleteReadError, HTTPError, OSError)


class Transient(Exception):  # noqa: N818 (a state of the line, not an error of the user)
    """A failure that another attempt may cure; its text is the cause."""


class Changed(Exception):  # noqa: N818
    """The object is no longer the one that its ETag named."""


class Stopped(Exception):  # noqa: N818
    """Another file failed for good, so this one stops early; what came stays for the next run."""


class Refused(PerceptError):  # noqa: N818 (reads as what happened)
    """The server answered, and will give the same answer again (403, 404)."""

    def __init__(self, status: int, keys: list[str], cfg: DownloadConfig) -> None:
        super().__init__(explain(status, keys, cfg))
        self.status = status


@dataclass(frozen=True)
class Remote:
    """One object of the bucket, as its HEAD describes it: size in bytes, ETag as sent, declared checksums."""

    key: str
    size: int
    etag: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    encrypted: bool = False  # with the customer's key: then the ETag is no digest of the content


def where(cfg: DownloadConfig) -> str:
    """Name the bucket and its server in messages."""
    return f"bucket {cfg.bucket} at {cfg.endpoint or f'Amazon S3, {cfg.region}'}"


def explain(status: int, keys: list[str], cfg: DownloadConfig) -> str:
    """What a final 403 or 404 means for these keys, and what to do."""
    named = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    if status == 404:
        return (
            f"{where(cfg)} has no {named} (404): these subjects, sessions or this beta version do not exist "
            "there, so nothing of this selection can be read. Compare `dataset.subjects`, "
            "`dataset.sessions`, `dataset.betas`, `dataset.space` and `dataset.format` with what was "
            "released; for a mirror, check that it holds the whole tree."
        )
    return (
        f"{where(cfg)} refuses {named} (403): NSD lists the sessions of a held-out period before it lets "
        "them be read, and a mirror may ask for credentials (Percept reads anonymously) or answer so for "
        "keys that it lacks. Lower `dataset.sessions`, check that the terms you signed cover this part, or "
        "correct `dataset.download.endpoint` and `dataset.download.bucket`."
    )


class Bucket:
    """Anonymous access to one bucket; safe to share between threads.

    Setting `stop` makes every transfer through this door raise `Stopped` at its next block.
    """

    def __init__(self, cfg: DownloadConfig) -> None:
        self.cfg = cfg
        self.stop = threading.Event()
        self._client = _client(cfg)

    def head(self, key: str) -> Remote:
        """Size, ETag and checksums of one object.

        Raises
        ------
        Refused : 403, 404
        PerceptError : the server stays out of reach after `retries` further attempts
        """
        answer = self._head(key, ChecksumMode="ENABLED")
        checksums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256"
        return Remote(key, answer["ContentLength"], answer.get("ETag", ""), checksums, encrypted)

    def part_size(self, remote: Remote, number: int) -> int | None:
        """Bytes in one part, counted from 1, of an object uploaded in parts; None if the server is silent."""
        try:
            return self._head(remote.key, PartNumber=number)["ContentLength"]
        except PerceptError:
            return None

    def _head(self, key: str, **wanted: str | int) -> dict[str, Any]:
        patience = Patience(self, key)
        while True:
            try:
                return self._call("head_object", key, **wanted)
            except Transient as error:
                patience.wait(error)

    def stream(self, remote: Remote, start: int, stop: int | None = None) -> Iterator[bytes]:
        """Blocks of bytes `start`..`stop` (exclusive; None: to the end) of exactly this version of an object.

        Raises
        ------
        Transient : the connection dropped, the body ended early or its announced size is wrong
        Changed : the object was replaced meanwhile
        Refused : 403, 404
        PerceptError : the server ignores ranges where only a range is wanted (`stop` given)
        """
        end = remote.size if stop is None else stop
        match = {"IfMatch": remote.etag} if remote.etag else {}
        answer = self._call("get_object", remote.key, Range=f"bytes={start}-{end - 1}", **match)
        skip = self._skipped(answer, remote, (start, end), whole=stop is None)
        left = end - start
        with closing(answer["Body"]) as body, self._failures(remote.key):
            while left:
                if self.stop.is_set():
                    raise Stopped(remote.key)
                block = body.read(BLOCK)
                if not block:
                    raise Transient(f"the body ended {left} bytes early")
                block, skip = block[skip:], max(0, skip - len(block))
                yield block[:left]
                left -= min(len(block), left)

    def _skipped(self, answer: Mapping[str, Any], remote: Remote, span: tuple[int, int], whole: bool) -> int:
        """Bytes to pass over before `span`: not 0 only where the server sends whole objects instead."""
        start, end = span
        announced = answer.get("ContentRange", "")
        if announced == f"bytes {start}-{end - 1}/{remote.size}":
            return 0
        if announced:
            answer["Body"].close()
            raise Transient(f"asked for bytes {start}-{end - 1} of {remote.size}, was sent {announced}")
        if not whole:
            answer["Body"].close()
            raise PerceptError(
                f"{where(self.cfg)} ignores byte ranges and would send all {remote.size} bytes of "
                f"{remote.key}: voxels cannot be read one by one from there. Set `dataset.format: nii.gz`, "
                "or point `dataset.download.endpoint` to a server with range requests."
            )
        if answer["ContentLength"] != remote.size:
            answer["Body"].close()
            raise Transient(f"the body announces {answer['ContentLength']} bytes instead of {remote.size}")
        return start

    def _call(self, action: str, key: str, **wanted: str | int) -> dict[str, Any]:
        with self._failures(key):
            return getattr(self._client, action)(Bucket=self.cfg.bucket, Key=key, **wanted)

    @contextmanager
    def _failures(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            self._sort(error, key)
        except CONNECTION_FAILURES as error:
            raise Transient(f"{type(error).__name__}: {error}") from error
        except BotoCoreError as error:
            raise PerceptError(f"{key} of {where(self.cfg)} cannot be asked for: {error}.") from error

    def _sort(self, error: ClientError, key: str) -> NoReturn:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        if status in PASSING or code in PASSING_CODES:
            raise Transient(f"the server answered {status} {code}") from error
        if status == 412:
            raise Changed(key) from error
        if status in {403, 404}:
            raise Refused(status, [key], self.cfg) from error
        raise PerceptError(
            f"{where(self.cfg)} answered {status} {code} for {key}: {error}. Check "
            "`dataset.download.endpoint`, `dataset.download.bucket` and `dataset.download.region`."
        ) from error


class Patience:
    """How long to go on with one object: waits double, and only failures without progress use up tries."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key
        self.failures = 0

    def wait(self, error: Transient, progressed: bool = False) -> None:
        """Sleep before another attempt.

        Raises
        ------
        PerceptError : `retries` further attempts in a row brought nothing
        Stopped : another file failed for good meanwhile
        """
        self.failures = 1 if progressed else self.failures + 1
        tries = self.bucket.cfg.retries
        if self.failures > tries:
            raise PerceptError(
                f"{self.key} could not be read from {where(self.bucket.cfg)}: {error} ({self.failures} "
                "attempts in a row without progress). What arrived is kept; the same command goes on from "
                "there. Check the network, its proxy and `dataset.download.endpoint`, or raise "
                "`dataset.download.retries`."
            ) from error
        delay_s = min(LONGEST_WAIT_S, BACKOFF_S * 2 ** (self.failures - 1)) * random.uniform(0.5, 1)
        log.warning("%s: %s; attempt %d of %d in %.1f s", self.key, error, self.failures, tries, delay_s)
        if self.bucket.stop.wait(delay_s):
            raise Stopped(self.key)


def _client(cfg: DownloadConfig) -> Any:  # noqa: ANN401 (boto3 makes its classes at run time)
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    options = Config(
        signature_version=UNSIGNED,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=cfg.connections,
        retries={"total_max_attempts": 1},
        response_checksum_validation="when_required",  # the whole file is verified, not each range
        s3={"addressing_style": "path" if cfg.endpoint else "auto"},
    )
    try:
        return boto3.session.Session().client(
            "s3", region_name=cfg.region, endpoint_url=cfg.endpoint, config=options
        )
    except (BotoCoreError, ValueError) as error:
        raise PerceptError(
            f"no connection to {where(cfg)} can be set up: {error}. `dataset.download.endpoint` must be a "
            "full URL such as https://s3.example.org (or null for Amazon's), and an AWS profile, if the "
            "environment names one, must exist."
        ) from error
