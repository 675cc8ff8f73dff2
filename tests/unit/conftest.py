# SPDX-License-Identifier: Apache-2.0
"""What holds for all unit tests."""

from hypothesis import settings
from tests.progress import DEEP

# No test asserts how long something takes. A sample is the same each time: what it finds was broken by the change at hand.
settings.register_profile("repository", deadline=None, derandomize=not DEEP)
settings.load_profile("repository")
