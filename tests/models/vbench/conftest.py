# SPDX-License-Identifier: Apache-2.0
"""VBench's own imports need what the runtime puts in the place of modules that are no more, also in these tests."""

from sandbox_runtime.vbench import shims

shims.install()
