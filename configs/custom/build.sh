#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images of the examples beside it and pushes them where the cluster pulls from, as `make images` does with the
# operator's own; prints their references, pinned by digest. Who has docker needs none of this: see the READMEs.
#
# usage: build.sh [own-image|raw-go|all]      settings: those of images/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

what=${1:-all}
[[ $what =~ ^(own-image|raw-go|all)$ ]] || { echo "build.sh: '$what' is not one of own-image, raw-go, all" >&2; exit 2; }
export SANDBOX_CACHE=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-operator}
export PATH="$SANDBOX_CACHE/bin/uv/bin:$PATH"
cache=$SANDBOX_CACHE/images
mkdir -p "$cache/pushed"

say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() { echo "build.sh: $*" >&2; exit 1; }

# shellcheck source=images/engine.sh
source images/engine.sh
choose_registry
choose_engine configs/custom/build.sh "$@"

base=
if [[ $what != raw-go ]]; then
  base=$(images/build.sh operator | sed -n 's/^OPERATOR_IMAGE=//p')
fi
exec 9>"$cache/lock"
flock 9
open_storage

deliver() {  # folder image KEY=VALUE...: builds it and prints where the cluster finds it
  local folder=configs/custom/$1 name=localhost/sandbox-custom/$2 record=$cache/pushed/$2
  shift 2
  (cd "$folder" && build "$PWD/Dockerfile" "$name" "$@")
  if [ -z "$registry" ]; then
    reference=$name
    return
  fi
  push "$name" "$registry/${name#localhost/}:latest" "$record"
  reference=$registry_in_cluster/${name#localhost/}@$(cat "$record")
}

if [[ $what == all || $what == own-image ]]; then
  say "mix-by-source: its wheel, on the operator's image"
  rm -rf configs/custom/own-image/dist
  (cd configs/custom/own-image && uv build --quiet --wheel --out-dir dist)
  if [ "$engine" = buildah ] && [ -n "$registry" ]; then
    base=$registry${base#"$registry_in_cluster"}
    buildah pull -q --tls-verify="$tls" "docker://$base" >/dev/null
  fi
  deliver own-image mix-by-source "BASE_IMAGE=$base"
  echo "MIX_BY_SOURCE_IMAGE=$reference"
fi
if [[ $what == all || $what == raw-go ]]; then
  say "exact-dedup: a static program, on nothing"
  mkdir -p configs/custom/raw-go/dist
  (cd configs/custom/raw-go && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o dist/exact-dedup .)
  deliver raw-go exact-dedup
  echo "EXACT_DEDUP_IMAGE=$reference"
fi
