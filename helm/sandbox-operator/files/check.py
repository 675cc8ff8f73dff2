# SPDX-License-Identifier: Apache-2.0
"""What `helm test` runs: does the operator answer, and may it list experiments where it is to run them?

It has only the standard library of the operator's image, and uses the operator's own service account.
"""

import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def answer(request: urllib.request.Request, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Status and body. OSError when nobody answers."""
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def health_problem(url: str, wait: float) -> str | None:
    """Why the operator is not well, after `wait` seconds to start in; None when it is."""
    deadline = time.monotonic() + wait
    while True:
        try:
            status, body = answer(urllib.request.Request(url))
            problem = None if status == 200 else f"The operator says it is not well: {url} answered {status}: {body}"
        except OSError as error:
            problem = f"The operator does not answer at {url} ({error}): see the logs of its Deployment."
        if problem is None or time.monotonic() > deadline:
            return problem
        time.sleep(1)


def list_problem(api: str, namespace: str, token: str, context: ssl.SSLContext | None) -> str | None:
    """Why the operator can't list experiments there; None when it can."""
    place = f"namespace {namespace}" if namespace else "the whole cluster"
    path = f"namespaces/{namespace}/sandboxexperiments" if namespace else "sandboxexperiments"
    request = urllib.request.Request(f"{api}/apis/sandbox.datajuicer.io/v1alpha1/{path}?limit=1")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        status, body = answer(request, context)
    except OSError as error:
        return f"The API server does not answer at {api}: {error}"
    if status == 404:
        return "The API server knows no sandboxexperiments: install the chart sandbox-operator-crds."
    if status == 403:
        return f"The operator may not list sandboxexperiments in {place}: check its Role and binding. {body}"
    return None if status == 200 else f"Listing sandboxexperiments in {place} answered {status}: {body}"


def main() -> int:
    namespaces = os.environ["WATCH_NAMESPACES"].split(",")  # empty: one empty name, the whole cluster
    token, context = (ACCOUNT / "token").read_text(), ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    problems = [health_problem(os.environ["HEALTH_URL"], wait=60)]
    problems += [list_problem(os.environ["API_URL"], namespace, token, context) for namespace in namespaces]
    found = [problem for problem in problems if problem]
    print("\n".join(found) or "The operator answers, and may list experiments.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
