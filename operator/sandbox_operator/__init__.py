# SPDX-License-Identifier: Apache-2.0
"""The operator: decisions (`plan`, `build`), the wall to the API server (`kube`), and the process that joins them."""
