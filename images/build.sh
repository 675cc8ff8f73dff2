#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images and pushes them where the cluster pulls from. An image is named by a digest of all that goes into it, so
# what has not changed is neither built nor pushed again. The references, pinned by digest, go to images.env in the cache.
#
# usage: build.sh [operator|tracking|torch|data|easyanimate|modelscope|swift|vbench|all]...   default: all
#   SANDBOX_CACHE                what is built once; default: ~/.cache/sandbox-operator
#   SANDBOX_REGISTRY             where to push, e.g. registry.example/team; default: the embedded cluster's registry when it is up
#   SANDBOX_REGISTRY_IN_CLUSTER  the same registry as pods name it; default: SANDBOX_REGISTRY
#   SANDBOX_ENGINE               buildah or docker; default: buildah for the embedded registry, else docker where its daemon runs
#   BASE_IMAGE                   default: python:3.11-slim with docker; with buildah a root file system made by images/base/build.sh
#   DETECTRON2                   for vbench: a clone of detectron2's repository, whose commit below is compiled into the image; default: without
#   SOURCE                       where the code comes from, for the label; default: unknown
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGES=(operator tracking data easyanimate modelscope swift vbench)
wanted=("${@:-all}")
for what in "${wanted[@]}"; do
  [[ $what =~ ^(operator|tracking|torch|data|easyanimate|modelscope|swift|vbench|all)$ ]] || { echo "build.sh: '$what' is not one of operator, tracking, torch, data, easyanimate, modelscope, swift, vbench, all" >&2; exit 2; }
done
is_wanted() { local each; for each in "${wanted[@]}"; do if [ "$each" = all ] || [ "$each" = "$1" ]; then return 0; fi; done; return 1; }
cache=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-operator}/images
mkdir -p "$cache/pushed"

say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() { echo "build.sh: $*" >&2; exit 1; }
digest() { sha256sum | cut -c1-16; }
contents() { find "$@" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum; }

# shellcheck source=images/engine.sh
source images/engine.sh
choose_registry
choose_engine images/build.sh "$@"
exec 9>"$cache/lock"
flock 9
open_storage

# detectron2's source, at the commit that Data-Juicer's sandbox names.
find images/vbench/detectron2 -mindepth 1 -maxdepth 1 ! -name SOURCE.md -exec rm -rf {} +
if [ -n "${DETECTRON2:-}" ]; then
  git -C "$DETECTRON2" archive b7c7f4ba82192ff06f2bbb162b9f67b00ea55867 | tar -x -C images/vbench/detectron2 || die "DETECTRON2: $DETECTRON2 is no clone that has commit b7c7f4ba"
fi

# What goes in, as digests. An image's key holds the key of what it stands on.
code=$(contents crds/sandbox_api operator/sandbox_operator images/runtime/sandbox_runtime pyproject.toml README.md LICENSE | digest)
declare -A parent=([torch]=base [operator]=base [tracking]=base [data]=torch [easyanimate]=torch [modelscope]=torch [swift]=torch [vbench]=torch) key
key[base]=$({ echo "${BASE_IMAGE:-}"; contents images/base; } | digest)
key[torch]=$({ echo "${key[base]}"; contents images/torch; } | digest)
key[operator]=$({ echo "${key[base]} $code"; contents images/operator; } | digest)
key[tracking]=$({ echo "${key[base]} $code"; contents images/tracking; } | digest)
for image in data easyanimate modelscope swift vbench; do
  key[$image]=$({ echo "${key[torch]} $code"; contents "images/$image"; } | digest)
done

name_of() { if [[ $1 == base && -n ${BASE_IMAGE:-} ]]; then echo "$BASE_IMAGE"; else echo "localhost/sandbox-operator/$1:${key[$1]}"; fi; }

wheel() {
  [ -z "${VERSION:-}" ] || return 0
  rm -rf dist
  SOURCE_DATE_EPOCH=315532800 uv build --quiet --wheel --out-dir dist
  VERSION=$(basename dist/*.whl | cut -d- -f2)
  REVISION=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
}

make_image() {  # image: builds it, and what it stands on, where it is not there yet
  local image=$1 arguments=()
  [[ $image != base || -z ${BASE_IMAGE:-} ]] || return 0
  if exists "$(name_of "$image")"; then return; fi
  if [ "$image" = base ]; then
    say "base image: a Debian root file system (about 1 min, once)"
    [ -f "$cache/base-${key[base]}.tar" ] || images/base/build.sh "$cache/base-${key[base]}.tar"
    import_rootfs "$cache/base-${key[base]}.tar" "$(name_of base)"
    rm -f "$cache"/base-*.tar
  else
    make_image "${parent[$image]}"
    arguments=("BASE_IMAGE=$(name_of "${parent[$image]}")")
    if [ "$image" = torch ]; then
      say "torch layer (about 2 min, once)"
    else
      wheel
      arguments+=("VERSION=$VERSION" "REVISION=$REVISION" "SOURCE=${SOURCE:-unknown}")
      say "$image image"
    fi
    build "images/$image/Dockerfile" "$(name_of "$image")" "${arguments[@]}"
  fi
  remove_others "$image" "${key[$image]}"
}

deliver() {  # image: makes sure that the registry has it; its pinned reference is in $reference then
  local image=$1 record=$cache/pushed/$1-${key[$1]}-${registry//[:\/]/_} repository=sandbox-operator/$1
  if [ -z "$registry" ]; then
    make_image "$image"
    reference=$(name_of "$image")
    return
  fi
  if ! { [ -f "$record" ] && is_pushed "$registry/$repository@$(cat "$record")"; }; then
    make_image "$image"
    say "pushing the $image image to $registry"
    push "$(name_of "$image")" "$registry/$repository:${key[$image]}" "$record.new"
    mv "$record.new" "$record"
  fi
  reference=$registry_in_cluster/$repository@$(cat "$record")
}

touch "$cache/images.env"
if [[ " ${wanted[*]} " == *" torch "* ]]; then make_image torch; fi
for image in "${IMAGES[@]}"; do
  is_wanted "$image" || continue
  deliver "$image"
  line=${image^^}_IMAGE=$reference
  { grep -v "^${image^^}_IMAGE=" "$cache/images.env" || true; echo "$line"; } > "$cache/images.env.new"
  mv "$cache/images.env.new" "$cache/images.env"
  echo "$line"
done
[ -n "$registry" ] || say "nothing was pushed: the embedded cluster is down and SANDBOX_REGISTRY is not set"
