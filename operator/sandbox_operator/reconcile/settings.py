# SPDX-License-Identifier: Apache-2.0
"""Settings of the operator's process, from environment variables: the same in the cluster and beside it."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from sandbox_api.progress import PROGRESS_PATH

from ..build.defaults import Defaults

PREFIX = "SANDBOX_"


class SettingsError(Exception):
    """A setting can't be used; the message names the variable."""


@dataclass(frozen=True)
class Settings:
    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; none means all."""
    defaults: Defaults = field(default_factory=Defaults)
    workers: int = 16
    """Experiments that are looked at at the same time."""
    log_level: str = "info"
    log_format: str = "text"
    listen: str = "0.0.0.0"
    """Where /healthz and the metrics are served: everywhere in a pod, on loopback beside a cluster."""
    liveness_port: int = 8080
    metrics_port: int = 9090
    """0 turns metrics off."""
    progress_port: int = 0
    """Where pods tell how far they are (`defaults.progress_url` is where they find it); 0: they tell nobody."""
    progress_service: tuple[str, str] | None = None
    """Namespace and name of the Service that this operator puts itself behind while it works; None: behind none."""
    pod_ip: str = ""
    """Under which the Service's clients reach this operator."""
    lease: tuple[str, str] | None = None
    """Namespace and name of the Lease that says which of several replicas works; None: this one is alone."""
    identity: str = ""
    """Who this replica is in the Lease: a pod's name, or something as unique."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read SANDBOX_NAMESPACES, _IMAGES, _IMAGE_PULL_POLICY, _PRIORITY_CLASS, _STORAGE_CLASS, _WORKERS, _LOG_LEVEL,
    _LOG_FORMAT, _LIVENESS_PORT, _METRICS_PORT, _PROGRESS_PORT, _PROGRESS_URL, _PROGRESS_SERVICE, _POD_IP, _LEASE and
    _IDENTITY. Raises SettingsError."""
    value = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
    progress_port = _number(value, "PROGRESS_PORT", 0, least=0)
    progress_service = _name_in(value, "PROGRESS_SERVICE", "a Service")
    return Settings(
        namespaces=tuple(filter(None, (part.strip() for part in value.get("NAMESPACES", "").split(",")))),
        defaults=Defaults(
            images=_images(value.get("IMAGES", "")),
            image_pull_policy=_one_of(value, "IMAGE_PULL_POLICY", ("IfNotPresent", "Always", "Never")),
            priority_class=value.get("PRIORITY_CLASS") or None,
            storage_class=value.get("STORAGE_CLASS") or None,
            progress_url=_progress_url(value, progress_port),
        ),
        workers=_number(value, "WORKERS", 16),
        log_level=_one_of(value, "LOG_LEVEL", ("info", "debug", "warning", "error")),
        log_format=_one_of(value, "LOG_FORMAT", ("text", "json")),
        listen="0.0.0.0" if "KUBERNETES_SERVICE_HOST" in environment else "127.0.0.1",
        liveness_port=_number(value, "LIVENESS_PORT", 8080),
        metrics_port=_number(value, "METRICS_PORT", 9090, least=0),
        progress_port=progress_port,
        progress_service=progress_service if progress_port else None,
        pod_ip=_pod_ip(value, needed=bool(progress_port and progress_service)),
        lease=_name_in(value, "LEASE", "a Lease"),
        identity=value.get("IDENTITY") or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
    )


def _images(text: str) -> dict[str, str]:
    try:
        images = json.loads(text or "{}")
    except ValueError as error:
        raise SettingsError(f"{PREFIX}IMAGES is not JSON ({error}); write an object of name: image") from None
    if not isinstance(images, dict) or not all(isinstance(image, str) for image in images.values()):
        raise SettingsError(f"{PREFIX}IMAGES must be a JSON object of name: image")
    return {name: image for name, image in images.items() if image}


def _name_in(value: Mapping[str, str], setting: str, what: str) -> tuple[str, str] | None:
    text = value.get(setting, "")
    namespace, _, name = text.partition("/")
    if text and not (namespace and name and "/" not in name):
        raise SettingsError(f"{PREFIX}{setting} must be NAMESPACE/NAME of {what}, not {text!r}")
    return (namespace, name) if text else None


def _progress_url(value: Mapping[str, str], port: int) -> str | None:
    """What pods are told, who can't guess it."""
    url = value.get("PROGRESS_URL", "").rstrip("/")
    if not port:
        return None
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise SettingsError(
            f"{PREFIX}PROGRESS_URL must be the URL under which pods reach port {port}, e.g."
            f" http://sandbox-operator-progress.sandbox-system.svc:{port}, not {url!r}; or set {PREFIX}PROGRESS_PORT=0"
        )
    return url + PROGRESS_PATH


def _pod_ip(value: Mapping[str, str], *, needed: bool) -> str:
    text = value.get("POD_IP", "")
    try:
        return str(ip_address(text)) if needed else text
    except ValueError as error:
        raise SettingsError(
            f"{PREFIX}POD_IP must be this pod's address, for {PREFIX}PROGRESS_SERVICE: {error}"
        ) from None


def _number(value: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    text = value.get(name) or str(default)
    if not text.isdigit() or int(text) < least:
        raise SettingsError(f"{PREFIX}{name} must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _one_of(value: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """The given choice; the first one is the default."""
    text = value.get(name) or choices[0]
    if text not in choices:
        raise SettingsError(f"{PREFIX}{name} must be one of {', '.join(choices)}, not {text!r}")
    return text
