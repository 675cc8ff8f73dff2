# SPDX-License-Identifier: Apache-2.0
"""Names the kinds of objects that the API server keeps, and where each lives in its address space.

It is not discovery: whoever uses a resource states its group, version and plural.
"""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: `Resource("batch", "v1", "jobs", "Job")`; the core group is the empty string."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What `apiVersion` says in a manifest of this kind: `v1` or `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object when `name` is given, or of one of its subresources.

        A namespaced collection without a namespace is that of all namespaces. Raises ValueError where the
        path would address something else than was meant: an object of a namespaced kind without its
        namespace, a namespace for a cluster-wide kind, a subresource without a name.
        """
        if name == "" or namespace == "":
            raise ValueError(
                f"{self.kind}: an empty name or namespace would mean the whole collection; give one, or None"
            )
        if namespace is not None and not self.namespaced:
            raise ValueError(f"{self.kind} lives in no namespace; leave out namespace={namespace!r}")
        if name is not None and namespace is None and self.namespaced:
            raise ValueError(f"{self.kind} {name!r} lives in a namespace; say which")
        if subresource is not None and name is None:
            raise ValueError(f"{self.kind}: the subresource {subresource!r} belongs to one object; give its name")
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/" + "/".join(parts)
