# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and the API server, one class for each case that a caller treats differently.

It decides nothing: what is tried again stands in `transport.py`.
"""

import json
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """The API server refused a request, or could not be asked.

    `status` is the HTTP status (0 when there was no answer), `reason` Kubernetes' word for it ("NotFound"),
    `message` the server's own sentence, `details` its machine-readable part (`causes` names fields),
    `retry_after` the seconds it asked us to wait. `str()` is a whole sentence with the request in it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        request: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.request = request
        self.retry_after = retry_after
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        asked = f" to {self.request}" if self.request else ""
        return f"the API server answered {self.status} {self.reason}{asked}: {self.message}"


class Unreachable(ApiError):
    """No answer, or half of one: network, certificate, time limit, a stream that broke or fell silent."""

    def _sentence(self) -> str:
        asked = f" for {self.request}" if self.request else ""
        return f"no answer from the API server{asked}: {self.message}"


class Unauthorized(ApiError):
    """401: the server does not know who asks."""

    def _sentence(self) -> str:
        return super()._sentence() + "; check the token or the user of the kubeconfig"


class Forbidden(ApiError):
    """403: a Role or a quota does not allow it; the message says which."""


class NotFound(ApiError):
    """404: no such object, or no such kind on this server."""


class Conflict(ApiError):
    """409: the object has changed since it was read, or a precondition does not hold."""


class AlreadyExists(ApiError):
    """409 on create: an object of this name is there. No Conflict, lest one be taken for the other."""


class Gone(ApiError):
    """410: the resourceVersion asked for has left the server's history; list again."""


class Invalid(ApiError):
    """422: the object does not fit its schema; the message names the fields."""


class TooManyRequests(ApiError):
    """429: turned away before it was processed; `retry_after` says for how long."""


class ServerError(ApiError):
    """5xx: the server failed; the request may or may not have been carried out."""


_CLASSES: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from(
    status: int, body: str | bytes | Mapping[str, Any], *, request: str = "", retry_after: str | None = None
) -> ApiError:
    """The error for an HTTP answer of 400 and above, or for the Status object of a watch's ERROR event.

    `body` is a Kubernetes Status as JSON or as a mapping; anything else (a proxy's page) becomes the message,
    cut to 300 characters.
    """
    answer = body if isinstance(body, Mapping) else _status_object(body)
    reason = str(answer.get("reason") or "")
    kind = (
        AlreadyExists if reason == "AlreadyExists" else _CLASSES.get(status, ServerError if status >= 500 else ApiError)
    )
    details = answer.get("details")
    details = details if isinstance(details, Mapping) else {}
    return kind(
        str(answer.get("message") or "no message"),
        status=status,
        reason=reason or kind.__name__,
        details=details,
        request=request,
        retry_after=_seconds(retry_after if retry_after is not None else details.get("retryAfterSeconds")),
    )


def _status_object(body: str | bytes) -> Mapping[str, Any]:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"message": " ".join(text.split())[:300]}


def _seconds(value: object) -> float | None:
    # Retry-After may also be a date (only proxies send one); our own back-off then decides.
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return None
