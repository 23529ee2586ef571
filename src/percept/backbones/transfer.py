"""Downloads over HTTP that resume in mid-file, and are checked before they get their name."""

import errno
import hashlib
import logging
import shutil
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from percept.files import BLOCK, PerceptError, sha256

log = logging.getLogger(__name__)
ATTEMPTS = 5  # in a row without one new byte
WAIT_S = 1.0  # before the second attempt; doubled before each further one
TIMEOUT_S = 60
REPORT_S = 15  # between two lines of progress in the log
PASSING = {408, 416, 425, 429, 500, 502, 503, 504}  # answers of HTTP that another attempt may mend
SPARE = 1 << 28  # bytes left free on the disk


@dataclass(frozen=True)
class Remote:
    """A file on a server, and what is known of its content.

    Attributes
    ----------
    path : where it goes, relative to the folder of the backbone
    size : in bytes; None where the server does not list it
    sha256 : digest of the content, or its first digits; empty if unknown
    blob : the name that git gives the content, empty if unknown
    """

    path: str
    url: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""

    def fault(self, file: Path) -> str:
        """What is wrong with a file that should have this content; empty if nothing."""
        if self.size is not None and (size := file.stat().st_size) != self.size:
            return f"it has {size} bytes instead of {self.size}"
        if self.sha256 and not (found := sha256(file)).startswith(self.sha256):
            return f"its SHA-256 is {found} instead of {self.sha256}"
        if self.blob and (found := git_blob(file)) != self.blob:
            return f"git would name it {found} instead of {self.blob}"
        return ""


def git_blob(file: Path) -> str:
    """The name that git gives a file's content: a SHA-1 over a header and the bytes."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_there(remote: Remote, target: Path) -> bool:
    """Whether a file has already been fetched, whole and as it should be."""
    return target.is_file() and not remote.fault(target)


def download(remote: Remote, target: Path) -> None:
    """Fetch a file; what an earlier attempt or process left in `<target>.part` is continued.

    Raises
    ------
    PerceptError : refused by the server, content other than listed (twice), or no space on the disk
    OSError : no connection, after several attempts
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for last in (False, True):
        _fetch_all(remote, part)
        if not (fault := remote.fault(part)):
            part.replace(target)
            return
        part.unlink()
        if last:
            raise PerceptError(
                f"{remote.url} was fetched twice, and both times {fault}: the server sends another file than "
                "it lists, or something between changes it. Try again later or from another network; what "
                "was fetched has been deleted."
            )
        log.warning("%s: %s; it is fetched again from its beginning", remote.path, fault)


def require_space(folder: Path, n_bytes: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    PerceptError : less space than `n_bytes` and a little spare
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes + SPARE:
        raise PerceptError(
            f"{what} needs {readable(n_bytes)} in {folder.absolute()}, but only {readable(free)} are free "
            "there. Make room, or make this folder a link to one on a larger disk; nothing was written."
        )


def readable(n_bytes: float) -> str:
    """A number of bytes in kB, MB or GB."""
    unit, factor = next(
        (unit, f) for unit, f in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if n_bytes >= f or f == 1e3
    )
    return f"{n_bytes / factor:.1f} {unit}"


def _fetch_all(remote: Remote, part: Path) -> None:
    """Continue until everything is there; give up after several attempts without a new byte."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            return _fetch_rest(remote, part)
        except HTTPError as error:
            if error.code not in PASSING:
                raise PerceptError(_refused(remote, error)) from error
            if error.code == 416:  # the part is no beginning of this file
                part.unlink(missing_ok=True)
            failure: Exception = error
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            failure = error
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless == ATTEMPTS:
            raise failure if isinstance(failure, OSError) else ConnectionError(str(failure))
        log.warning("%s: %s after %s; trying again", remote.path, failure, readable(_size(part)))
        time.sleep(WAIT_S * 2**fruitless)


def _fetch_rest(remote: Remote, part: Path) -> None:
    start = _size(part)
    if remote.size is not None and start >= remote.size and part.exists():
        return  # whole, or too much: the caller looks
    with urlopen(_request(remote.url, start), timeout=TIMEOUT_S) as answer:
        if start and answer.status != 206:
            log.info("%s: the server cannot resume, it is fetched from its beginning", remote.path)
            start = 0
        total = _announced(answer, start)
        if total is not None:
            require_space(part.parent, total - start, remote.path)
        with part.open("ab" if start else "wb") as file:
            _copy(answer, file, remote.path, start, total)
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


def _request(url: str, start: int) -> Request:
    headers = {"User-Agent": "percept", "Accept-Encoding": "identity"}
    return Request(url, headers=headers | ({"Range": f"bytes={start}-"} if start else {}))


def _announced(answer: HTTPResponse, start: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return None if length is None else start + int(length)


def _copy(answer: HTTPResponse, file, name: str, start: int, total: int | None) -> None:  # noqa: ANN001
    """Write what comes, and say now and then how far it is."""
    done, begun = start, time.monotonic()
    reported = begun
    while block := answer.read(BLOCK):
        file.write(block)
        done += len(block)
        if (now := time.monotonic()) - reported >= REPORT_S:
            elapsed = max(now - begun, 1e-9)  # the clocks of some machines are coarse
            reported, rate = now, (done - start) / elapsed
            share = f" of {readable(total)} ({100 * done // total} %)" if total else ""
            log.info("%s: %s%s, %s/s", name, readable(done), share, readable(rate))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _refused(remote: Remote, error: HTTPError) -> str:
    return (
        f"the server refuses {remote.url} ({error.code} {error.reason}): the file was moved or withdrawn, or "
        "its licence has to be accepted on the server first. If you have the files from elsewhere, put them "
        "where the command `python -m percept.backbones.fetch` would, and run it: it fetches only what is "
        "missing."
    )
