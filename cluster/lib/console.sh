# SPDX-License-Identifier: Apache-2.0
# What a person reads: progress with the seconds since the command began, and errors. All on stderr.

STARTED=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - STARTED)) "$*" >&2; }
die() { printf 'cluster: %s\n' "$*" >&2; exit 1; }
