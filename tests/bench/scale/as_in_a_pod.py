# SPDX-License-Identifier: Apache-2.0
"""The operator as it runs in its image: logged in by a service account's files, without the `kubernetes` package.

Beside a cluster it would read a kubeconfig, and that package's 20 to 45 MiB would be measured with it.
`python as_in_a_pod.py FOLDER PORT`; FOLDER holds `token` and `ca.crt`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

sys.modules["kubernetes"] = None  # type: ignore[assignment]  # whoever imports it hears that it is not installed

from sandbox_operator import main
from sandbox_operator.kube.config import Connection, in_cluster

FOLDER, PORT = sys.argv[1:3]
PR_SET_PDEATHSIG = 1


def connect(**_: object) -> Connection:
    os.environ |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": PORT}
    return in_cluster(Path(FOLDER))


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # nobody would end it after a bench that was killed
    main.connect = connect
    sys.argv[1:] = ["run"]
    main.main()
