# SPDX-License-Identifier: Apache-2.0
"""The one wall to the API server: connection, requests, caches of what is watched, and the work queue behind
them.

Nothing here knows what is being operated on: no resource of ours, no label, no name. The file to read first
is `client.py`.
"""
