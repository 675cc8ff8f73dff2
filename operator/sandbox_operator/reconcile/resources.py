# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that the operator reads and writes."""

from sandbox_api.base import GROUP, VERSION

from ..kube.resources import Resource

EXPERIMENTS = Resource(GROUP, VERSION, "sandboxexperiments", "SandboxExperiment")
HOOKS = Resource(GROUP, VERSION, "sandboxhooks", "SandboxHook")
SWEEPS = Resource(GROUP, VERSION, "sandboxsweeps", "SandboxSweep")
JOBS = Resource("batch", "v1", "jobs", "Job")
PODS = Resource("", "v1", "pods", "Pod")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SERVICES = Resource("", "v1", "services", "Service")
EVENTS = Resource("", "v1", "events", "Event")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
