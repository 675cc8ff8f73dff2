# SPDX-License-Identifier: Apache-2.0
"""What long runs say while they go on, and what they have counted when they are over."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.progress import Say

os.environ.pop("COLUMNS", None)
"""Set by whoever runs pytest, in its workers too; it would hold for good for whatever asks before a test says its own."""

COUNTS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Says a line to who waits for a long run, while it goes on: past pytest's own capturing of what a test prints."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(line)
            terminal.flush()

    return write


@pytest.fixture(scope="session")
def counts(request: pytest.FixtureRequest) -> Say:
    """Keeps a line with what a test has counted for the end of the run."""
    return request.config.stash.setdefault(COUNTS, []).append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if lines := config.stash.get(COUNTS, []):
        terminalreporter.section("counts")
        for line in lines:
            terminalreporter.write_line(line)
