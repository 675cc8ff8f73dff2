# SPDX-License-Identifier: Apache-2.0
"""Builders: what is decided, as the manifests a person would write. Pure functions that return plain dicts."""
