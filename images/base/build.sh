#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a small Debian 12 root file system with Python 3.11, the base of images that are built where no public registry can be
# reached. It is no distribution of ours: packages come from the machine's own Debian mirror, and it is remade when this file changes.
#
# usage: build.sh FILE.tar
set -euo pipefail

target=$1
work=$(mktemp -d "$(dirname "$target")/.base.XXXXXX")
trap 'rm -rf "$work"' EXIT

exclude=()
for path in '/usr/share/doc/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/man/*'; do
  exclude+=("--dpkgopt=path-exclude=$path")
done

# --skip=output/dev: the container engine makes its own devices, and the tar unpacks without the right to make them.
mmdebstrap --quiet --variant=minbase --skip=output/dev \
  --include=python3-minimal,python3-venv,ca-certificates \
  "${exclude[@]}" --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  bookworm "$work/base.tar"
mv "$work/base.tar" "$target"
