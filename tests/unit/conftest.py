# SPDX-License-Identifier: Apache-2.0
"""What holds for all unit tests."""

from hypothesis import settings

settings.register_profile("repository", deadline=None)  # no test asserts how long something takes
settings.load_profile("repository")
