# SPDX-License-Identifier: Apache-2.0
"""Data and weights from elsewhere onto the volume.

Clients of hubs and stores list what there is and open it (`sources`, `web`, `hubs`, `stores`); one transfer moves the
bytes of all of them, so that what is promised (goes on where it was, digests, room on the volume) holds for each. The
hook is `sandbox_runtime.hooks.fetch`.
"""
