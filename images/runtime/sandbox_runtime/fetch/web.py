# SPDX-License-Identifier: Apache-2.0
"""Files by http and https, hubs' included: ranges that go on only where the content is still the same.

Nothing here prints what a library says of a failed request: that may hold a signed address.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .remote import Body, Changed, Interrupted

if TYPE_CHECKING:
    from requests import Response, Session

CONNECT_SECONDS, READ_SECONDS = 30, 30
"""A silence of that long is an interruption. Less than the grace that a pod has after it was told to end."""
CHUNK = 1 << 18
AGAIN = frozenset([408, 425, 429, 500, 502, 503, 504])
_threads = threading.local()


def open_web(
    url: str, told: str, headers: Mapping[str, str], start: int, version: str | None, *, if_range: bool = True
) -> Body:
    """Ask for the bytes from `start` on. `if_range`: the version is one that the server named, so it can compare.

    Raises ConfigError when asking again won't help, else Interrupted.
    """
    asked = {"Accept-Encoding": "identity", **headers}
    if start:
        asked["Range"] = f"bytes={start}-"
        if if_range and version:
            asked["If-Range"] = version
    response = _get(url, told, asked)
    try:
        return _body(response, told, start, version, if_range=if_range)
    except BaseException:
        response.close()
        raise


def _body(response: Response, told: str, start: int, version: str | None, *, if_range: bool) -> Body:
    status, found = response.status_code, version_of(response.headers) if if_range else version
    if status == 416 and start:
        # nothing comes after what we have: it is whole, or it has changed and is shorter now
        if response.headers.get("Content-Range", "").rpartition("/")[2] != str(start):
            raise Changed
        return Body(start, iter(()), start, version, response.close)
    refuse(status, told, response.headers, has_token="Authorization" in response.request.headers)
    begins, size = _range(response, status)
    if begins not in (0, start):
        raise Interrupted("the server sent other bytes than it was asked for")
    if begins and found != version:
        raise Changed
    return Body(begins, _chunks(response), size, found, response.close)


def refuse(status: int, told: str, headers: Mapping[str, str], *, has_token: bool) -> None:
    """Raise what an http status other than success means."""
    if status in (200, 206):
        return
    if status in AGAIN:
        raise Interrupted(f"the server answers {status}", _seconds(headers.get("Retry-After")))
    if status in (401, 403):
        advice = "the token does not open it" if has_token else "it wants to know who asks: give a token (`token_env`)"
        raise ConfigError(f"extraConfigs.source: {told}: the server refuses it ({status}); {advice}")
    if status in (404, 410):
        raise ConfigError(f"extraConfigs.source: {told}: there is nothing at this address ({status})")
    raise ConfigError(f"extraConfigs.source: {told}: the server answers {status}")


def version_of(headers: Mapping[str, str]) -> str | None:
    """What a range request can be bound to: a strong ETag, else the time of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _get(url: str, told: str, headers: Mapping[str, str]) -> Response:
    import requests

    session: Session | None = getattr(_threads, "session", None)
    if session is None:
        session = _threads.session = requests.Session()
    try:
        return session.get(url, headers=dict(headers), stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.exceptions.SSLError:
        raise ConfigError(
            f"extraConfigs.source: {told}: its certificate can't be verified; an authority of your own is named by the"
            " environment variable REQUESTS_CA_BUNDLE"
        ) from None
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as e:
        raise Interrupted(reason(e)) from None
    except requests.exceptions.TooManyRedirects:
        raise ConfigError(f"extraConfigs.source: {told}: the server redirects without end") from None
    except requests.exceptions.RequestException as e:
        raise ConfigError(f"extraConfigs.source: {told}: can't be asked for ({type(e).__name__})") from None


def reason(error: BaseException) -> str:
    """Why a connection failed, in words that hold no address."""
    seen: list[BaseException] = []
    following: list[object] = [error]
    while following:
        one = following.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            following += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]
    names = " ".join(type(one).__name__ for one in seen)
    if any(isinstance(one, socket.gaierror) for one in seen) or "NameResolution" in names:
        return "the name of the host can't be resolved"
    if "Timeout" in names or "TimedOut" in names:
        return "no answer in time"
    told = next((one.strerror for one in seen if isinstance(one, OSError) and one.strerror), None)
    return f"the connection failed: {told.lower()}" if told else "the connection was cut"


def _chunks(response: Response) -> Iterator[bytes]:
    import urllib3

    try:
        # what has come is handed on at once: bytes that wait for others would be lost with the connection
        while data := response.raw.read1(CHUNK, decode_content=False):
            yield data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Interrupted(reason(error)) from None


def _range(response: Response, status: int) -> tuple[int, int | None]:
    """Where the answer begins, and the size of the whole file."""
    if status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None:
            raise Interrupted("the server does not say which bytes it sends")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After header: seconds, or a moment."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    from datetime import UTC, datetime

    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
