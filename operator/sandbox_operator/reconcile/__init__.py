# SPDX-License-Identifier: Apache-2.0
"""The story: observe, plan, write the status, act. Here the decisions meet the wall to the API server."""
