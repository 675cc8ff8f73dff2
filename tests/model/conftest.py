# SPDX-License-Identifier: Apache-2.0
"""Tells how much the model went through."""

import sys
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    module = next((m for name, m in sys.modules.items() if name.endswith("test_plan_model")), None)
    if module is not None and module.COUNTS["examples"]:
        told = ", ".join(f"{number} {what}" for what, number in module.COUNTS.items())
        terminalreporter.write_line(
            f"model of the planner: {told}; no invariant was broken" * (not terminalreporter.stats.get("failed"))
        )
