# SPDX-License-Identifier: Apache-2.0
"""The search of a sweep, pure: what a trial's parameters are, which trials end early, and proof of both afterwards."""
