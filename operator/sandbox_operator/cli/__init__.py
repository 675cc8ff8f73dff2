# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl`: looks at experiments and edits their spec; it has no side door."""
