# SPDX-License-Identifier: Apache-2.0
"""What a model that is no folder may be."""

import re

HUB_ID = re.compile(r"(?!(inputs|outputs|jobs)/)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""An id of a model hub, `owner/name`; the experiment's own folders are none."""
