# SPDX-License-Identifier: Apache-2.0
"""Pools of rows: data sets that are cut, mixed and joined without being held in memory."""
