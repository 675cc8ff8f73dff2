# SPDX-License-Identifier: Apache-2.0
"""What all tests of the modelscope image share."""

import importlib

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Once, for all pods that are forked."""
    torch.set_num_threads(1)
    importlib.import_module("sandbox_runtime.modelscope.worker")
