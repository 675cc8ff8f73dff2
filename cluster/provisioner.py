# SPDX-License-Identifier: Apache-2.0
"""Gives every claim of the embedded node's StorageClass a folder on the machine's disk.

Watches claims and volumes; makes a hostPath volume for each claim that has none; removes both when the claim is gone.
It is for one node only: sizes are not enforced, and ReadWriteMany holds because all pods share the disk.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PROVISIONER = "sandbox.cluster/folder"
# The annotation tells the controller-manager that it must not try to delete the volume itself.
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
RELIST_SECONDS = 60

Object = dict[str, Any]


class Api:
    """The API server of a kubeconfig written as JSON; raises urllib.error.URLError."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        self._authorization = "Bearer " + config["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)

    def open(self, method: str, path: str, body: Object | None = None, timeout: float = 10) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        request = urllib.request.Request(self._server + path, data=data, method=method, headers=headers)
        return urllib.request.urlopen(request, context=self._tls, timeout=timeout)

    def call(self, method: str, path: str, body: Object | None = None) -> Object:
        with self.open(method, path, body) as response:
            answer: Object = json.load(response)
            return answer

    def watch(self, path: str, changed: threading.Event) -> None:
        """Set `changed` at each change under `path`, for ever; also at each start, when some may be missed."""
        while True:
            try:
                version = self.call("GET", path + "?limit=1")["metadata"]["resourceVersion"]
                changed.set()
                with self.open("GET", f"{path}?watch=1&resourceVersion={version}", timeout=300) as stream:
                    for _ in stream:
                        changed.set()
            except (OSError, ValueError):  # the next round tells whether it was more than a passing fault
                time.sleep(0.5)


class Provisioner:
    def __init__(self, api: Api, folder: Path, storage_class: str) -> None:
        self._api = api
        self._folder = folder
        self._class = storage_class
        self._refused: set[str] = set()

    def reconcile(self) -> None:
        """Bring volumes in line with claims once; raises urllib.error.URLError."""
        # Claims first: a volume seen afterwards may be newer than its claim, never older.
        claims = self._api.call("GET", CLAIMS)["items"]
        volumes = {v["metadata"]["name"]: v for v in self._api.call("GET", VOLUMES)["items"]}
        for claim in claims:
            mine = claim["spec"].get("storageClassName") == self._class and not claim["spec"].get("volumeName")
            if mine and volume_name(claim) not in volumes and "deletionTimestamp" not in claim["metadata"]:
                self._provide(claim)
        for volume in volumes.values():
            mine = volume["metadata"].get("annotations", {}).get(PROVISIONED_BY) == PROVISIONER
            released = volume.get("status", {}).get("phase") == "Released"
            if mine and released and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
                self._remove(volume)

    def _provide(self, claim: Object) -> None:
        refusal = why_not(claim)
        if refusal:
            self._refuse(claim, refusal)
            return
        meta, spec = claim["metadata"], claim["spec"]
        path = self._folder / f"{meta['namespace']}_{meta['name']}_{volume_name(claim)}"
        path.mkdir(exist_ok=True)
        path.chmod(0o2777)  # a hostPath takes no fsGroup: pods of any user must be able to write
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": self._class,
                "hostPath": {"path": str(path), "type": "Directory"},
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": meta["namespace"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                },
            },
        }
        try:
            self._api.call("POST", VOLUMES, volume)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        print(f"{meta['namespace']}/{meta['name']}: {path}", flush=True)

    def _remove(self, volume: Object) -> None:
        path = Path(volume["spec"].get("hostPath", {}).get("path", "/"))
        # Whoever may create volumes could name any folder with our annotation.
        if path.parent == self._folder and re.fullmatch(r"[^/]+_pvc-[0-9a-f-]+", path.name):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path)
        try:
            self._api.call("DELETE", f"{VOLUMES}/{volume['metadata']['name']}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        print(f"removed {path}", flush=True)

    def _refuse(self, claim: Object, message: str) -> None:
        meta = claim["metadata"]
        if meta["uid"] in self._refused:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._api.call(
            "POST",
            f"/api/v1/namespaces/{meta['namespace']}/events",
            {
                "metadata": {"generateName": meta["name"][:200] + "-", "namespace": meta["namespace"]},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": meta["namespace"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                },
                "type": "Warning",
                "reason": "ProvisioningFailed",
                "message": message,
                "source": {"component": PROVISIONER},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            },
        )
        self._refused.add(meta["uid"])


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def why_not(claim: Object) -> str | None:
    """What keeps a claim from getting a folder, as a sentence; None when nothing does."""
    spec = claim["spec"]
    if spec.get("volumeMode", "Filesystem") != "Filesystem":
        return f"spec.volumeMode: {spec['volumeMode']} is not offered here; use Filesystem"
    if spec.get("dataSource") or spec.get("dataSourceRef"):
        return "spec.dataSource: a volume cannot be made from another one here; leave it out and copy the files"
    if spec.get("selector"):
        return "spec.selector: volumes made on demand carry no labels to select by; leave it out"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", type=Path, required=True, help="written as JSON")
    parser.add_argument("--folder", type=Path, required=True, help="each volume is a folder in it")
    parser.add_argument("--storage-class", required=True)
    arguments = parser.parse_args()
    api = Api(arguments.kubeconfig)
    provisioner = Provisioner(api, arguments.folder, arguments.storage_class)
    os.umask(0o022)
    changed = threading.Event()
    for path in (CLAIMS, VOLUMES):
        threading.Thread(target=api.watch, args=(path, changed), daemon=True).start()
    while True:
        changed.wait(RELIST_SECONDS)
        changed.clear()
        try:
            provisioner.reconcile()
        except OSError as error:  # URLError is one: the API server is away, or says no
            print(error, file=sys.stderr, flush=True)
            time.sleep(0.5)
            changed.set()


if __name__ == "__main__":
    main()
