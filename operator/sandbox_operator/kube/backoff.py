# SPDX-License-Identifier: Apache-2.0
"""How long to wait after the n-th failure: one formula for requests, watches and the work queue.

It is not a retry loop: who waits, and for what, stands where it is called.
"""


def exponential(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after `failures` (>= 1) in a row: `first`, doubled each time, at most `longest`."""
    return float(min(longest, first * 2 ** min(failures - 1, 32)))
