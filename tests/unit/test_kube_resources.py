# SPDX-License-Identifier: Apache-2.0
"""Addresses of objects, and what an answer that refuses becomes. No server here."""

import json

import pytest

from sandbox_operator.kube import errors
from sandbox_operator.kube.errors import ApiError, error_from
from sandbox_operator.kube.resources import Resource
from sandbox_operator.kube.transport import pause_before_retry

JOBS = Resource("batch", "v1", "jobs", "Job")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)


def test_paths_follow_the_api_servers_layout() -> None:
    assert JOBS.api_version == "batch/v1"
    assert PODS.api_version == "v1"
    assert JOBS.path() == "/apis/batch/v1/jobs"
    assert JOBS.path(namespace="lab") == "/apis/batch/v1/namespaces/lab/jobs"
    assert PODS.path(namespace="lab", name="p", subresource="log") == "/api/v1/namespaces/lab/pods/p/log"
    assert NODES.path(name="n1") == "/api/v1/nodes/n1"
    assert PODS.path(namespace="lab", name="a/../b") == "/api/v1/namespaces/lab/pods/a%2F..%2Fb"


@pytest.mark.parametrize(
    ("resource", "where", "said"),
    [
        (JOBS, {"name": "j"}, "say which"),
        (JOBS, {"namespace": "lab", "name": ""}, "whole collection"),
        (JOBS, {"namespace": "", "name": "j"}, "whole collection"),
        (NODES, {"namespace": "lab"}, "no namespace"),
        (JOBS, {"namespace": "lab", "subresource": "status"}, "give its name"),
    ],
)
def test_a_path_that_would_mean_something_else_is_refused(resource: Resource, where: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resource.path(**where)


def status(reason: str, message: str = "m", **more: object) -> str:
    return json.dumps({"kind": "Status", "reason": reason, "message": message, **more})


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", ApiError),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (504, "Timeout", errors.ServerError),
    ],
)
def test_each_refusal_has_its_class(code: int, reason: str, kind: type[ApiError]) -> None:
    error = error_from(code, status(reason), request="GET /x")
    assert type(error) is kind
    assert (error.status, error.reason) == (code, reason)


def test_an_error_reads_as_a_sentence_with_the_request_and_the_servers_words() -> None:
    causes = {"causes": [{"field": "spec.x", "message": "must be positive"}]}
    error = error_from(
        422, status("Invalid", "spec.x: must be positive", details=causes), request="POST /apis/a/v1/things"
    )
    assert str(error) == "the API server answered 422 Invalid to POST /apis/a/v1/things: spec.x: must be positive"
    assert error.details["causes"][0]["field"] == "spec.x"
    assert "token" in str(error_from(401, status("Unauthorized"), request="GET /x"))


def test_a_proxys_page_in_place_of_a_status_is_told_shortened() -> None:
    error = error_from(502, b"<html>\n  Bad gateway\n</html>" + b"x" * 5000)
    assert isinstance(error, errors.ServerError)
    assert error.message.startswith("<html> Bad gateway </html>")
    assert len(error.message) == 300
    assert isinstance(error_from(503, b"[1]"), errors.ServerError)


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        ("3", status("TooManyRequests"), 3.0),
        (None, status("TooManyRequests", details={"retryAfterSeconds": 7}), 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", status("TooManyRequests"), None),
        (None, status("TooManyRequests"), None),
    ],
)
def test_retry_after_is_read_from_header_or_status(header: str | None, body: str, seconds: float | None) -> None:
    assert error_from(429, body, retry_after=header).retry_after == seconds


@pytest.mark.parametrize(
    ("error", "repeatable", "again"),
    [
        (error_from(429, ""), False, True),
        (error_from(429, ""), True, True),
        (error_from(500, ""), True, True),
        (error_from(503, ""), True, True),
        (error_from(503, ""), False, False),
        (error_from(501, ""), True, False),
        (errors.Unreachable("reset"), True, True),
        (errors.Unreachable("reset"), False, False),
        (error_from(409, ""), True, False),
        (error_from(404, ""), True, False),
    ],
)
def test_only_what_was_refused_or_can_be_repeated_is_sent_again(error: ApiError, repeatable: bool, again: bool) -> None:
    assert (pause_before_retry(error, 1, repeatable=repeatable) is not None) == again


def test_pauses_grow_obey_the_server_within_bounds_and_end() -> None:
    def pauses(error: ApiError) -> list[float | None]:
        return [pause_before_retry(error, failures, repeatable=True) for failures in range(1, 6)]

    assert pauses(error_from(503, "")) == [0.1, 0.2, 0.4, 0.8, None]
    assert pauses(error_from(429, "", retry_after="2"))[:2] == [2, 2]
    assert pauses(error_from(429, "", retry_after="86400"))[0] == 30
