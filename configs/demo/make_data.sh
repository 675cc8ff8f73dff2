#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the Chinese text (Debian's package manpages-zh: downloaded and unpacked, not installed) and makes the demo's data set.
# The texts (Python's documentation: PSF-2.0; manpages-zh: GFDL-1.2+ for the most part) stay on this machine and are shipped in no image.
#
# usage: make_data.sh OUTPUT [SEED]
#   MANPAGES_ZH   a folder where the package lies unpacked already; needed where there is no apt-get
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:?usage: make_data.sh OUTPUT [SEED]}
cache=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-operator}/demo
pages=${MANPAGES_ZH:-$cache/manpages-zh}

if [ ! -d "$pages" ]; then
  command -v apt-get >/dev/null ||
    { echo "make_data.sh: no apt-get here; unpack Debian's package manpages-zh somewhere and name the folder in MANPAGES_ZH" >&2; exit 1; }
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/.manpages.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  apt-cache show manpages-zh >/dev/null 2>&1 || apt-get update -qq
  (cd "$work" && apt-get download -qq manpages-zh 2>/dev/null) ||
    { echo "make_data.sh: apt-get download manpages-zh failed; try 'apt-get update' first" >&2; exit 1; }
  dpkg -x "$work"/manpages-zh_*.deb "$work/unpacked"
  mv -T "$work/unpacked" "$pages"
fi
exec python3 "$here/make_data.py" --manpages "$pages" --output "$output" --seed "${2:-7}"
