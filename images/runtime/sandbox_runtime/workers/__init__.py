# SPDX-License-Identifier: Apache-2.0
"""Processes that compute for a hook, one a GPU: how the hook starts and follows them, and their own side of it."""
