# SPDX-License-Identifier: Apache-2.0
"""Decisions. Frozen facts in, a plan out: no I/O, no clock, no randomness, one policy a file."""
