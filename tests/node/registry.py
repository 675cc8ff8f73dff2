# SPDX-License-Identifier: Apache-2.0
"""Images made by putting a few files on top of one that is in the node's registry: no build, no root file system, no engine.

The registry speaks the distribution API; a layer is a tar, and an image is a manifest that lists layers.
"""

import gzip
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Image:
    """An image whose layers are in the registry, and whose manifest can be put there under any tag."""

    registry: "Registry"
    repository: str
    manifest: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return _digest(self.manifest)

    def reference(self, tag: str | None = None) -> str:
        """How a pod names it: by the tag, or pinned by its digest."""
        return f"{self.registry.in_cluster}/{self.repository}" + (f":{tag}" if tag else f"@{self.digest}")

    def push(self, tag: str | None = None) -> str:
        """Make the image known under a tag or its digest alone; returns its reference."""
        path = f"{self.repository}/manifests/{tag or self.digest}"
        self.registry.call("PUT", path, self.manifest, {"Content-Type": self.media_type})
        return self.reference(tag)


@dataclass(frozen=True)
class Registry:
    """A registry without TLS. Raises urllib.error.HTTPError when it says no."""

    address: str
    """Where this machine reaches it, host:port."""
    in_cluster: str
    """How pods name it."""

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, Any]:
        url = path if path.startswith("http") else f"http://{self.address}/v2/{path}"
        request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read(), response.headers

    def put_on(self, base: str, repository: str, files: dict[str, bytes]) -> Image:
        """The image `base`, as a pod names it, with these files (by absolute path) on top. Its layers are there then."""
        source, _, digest = base.removeprefix(f"{self.in_cluster}/").partition("@")
        body, headers = self.call("GET", f"{source}/manifests/{digest}", headers={"Accept": MANIFESTS})
        manifest = json.loads(body)
        config = json.loads(self.call("GET", f"{source}/blobs/{manifest['config']['digest']}")[0])
        for layer in manifest["layers"]:
            self.call("POST", f"{repository}/blobs/uploads/?mount={layer['digest']}&from={source}", b"")
        tar = _tar(files)
        packed = gzip.compress(tar, mtime=0)
        config["rootfs"]["diff_ids"].append(_digest(tar))
        config.setdefault("history", []).append({"created_by": "files on top"})
        is_oci = "oci" in headers["Content-Type"]
        kind = (
            "application/vnd.oci.image.layer.v1.tar+gzip"
            if is_oci
            else "application/vnd.docker.image.rootfs.diff.tar.gzip"
        )
        manifest["layers"].append({"mediaType": kind, "digest": self._upload(repository, packed), "size": len(packed)})
        described = json.dumps(config).encode()
        manifest["config"] |= {"digest": self._upload(repository, described), "size": len(described)}
        return Image(self, repository, json.dumps(manifest).encode(), headers["Content-Type"])

    def _upload(self, repository: str, content: bytes) -> str:
        digest = _digest(content)
        _, headers = self.call("POST", f"{repository}/blobs/uploads/", b"")
        place = headers["Location"]
        place = place if place.startswith("http") else f"http://{self.address}{place}"
        self.call(
            "PUT",
            f"{place}{'&' if '?' in place else '?'}digest={digest}",
            content,
            {"Content-Type": "application/octet-stream"},
        )
        return digest


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _tar(files: dict[str, bytes]) -> bytes:
    """The files, each readable by all, with no time of their own: equal content gives an equal layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), 0o644, 1
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
