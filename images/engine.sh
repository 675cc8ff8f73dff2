# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# The two container engines behind one set of verbs, and the registry, for build.sh to source. $cache, say and die are build.sh's.

EMBEDDED_REGISTRY=10.99.0.1:5000   # on the embedded node's own link; its containerd knows it as registry.local:5000

choose_engine() {  # script arguments...: may start the script again
  engine=${SANDBOX_ENGINE:-buildah}
  # Docker refuses the embedded registry, which speaks plain HTTP, unless its daemon is told so.
  if [ -z "${SANDBOX_ENGINE:-}" ] && [ "$registry" != $EMBEDDED_REGISTRY ] && docker info >/dev/null 2>&1; then engine=docker; fi
  [[ $engine =~ ^(buildah|docker)$ ]] || die "SANDBOX_ENGINE: '$engine' is not one of buildah, docker"
  command -v "$engine" >/dev/null || die "no $engine here: start docker, or install buildah with 'cluster/cluster tools'"
  command -v uv >/dev/null || die "no uv here: 'make setup' installs it"
  if [ "$engine" = docker ]; then
    BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim}
    return
  fi
  [ "$(id -u)" = 0 ] || die "buildah builds as root here: run as root, or start docker"
  for tool in skopeo mmdebstrap; do
    command -v $tool >/dev/null || die "no $tool here: 'cluster/cluster tools' installs it"
  done
  # buildah leaves mounts behind; in a mount namespace of our own they end with us.
  if [ -z "${SANDBOX_BUILD_UNSHARED:-}" ]; then SANDBOX_BUILD_UNSHARED=1 exec unshare --mount --propagation private bash "$@"; fi
}

# Whether a registry answers there in plain HTTP: a connection alone may be a proxy's.
is_registry() {
  timeout 2 bash -c 'exec 3<>"/dev/tcp/${1/:/\/}" && printf "GET /v2/ HTTP/1.0\r\n\r\n" >&3 && grep -qi ^Docker-Distribution-Api-Version <&3' \
    - "$1" 2>/dev/null
}

choose_registry() {
  registry=${SANDBOX_REGISTRY:-}
  if [ -z "$registry" ] && is_registry $EMBEDDED_REGISTRY; then registry=$EMBEDDED_REGISTRY; fi
  registry_in_cluster=${SANDBOX_REGISTRY_IN_CLUSTER:-$registry}
  if [ "$registry" = $EMBEDDED_REGISTRY ]; then registry_in_cluster=${SANDBOX_REGISTRY_IN_CLUSTER:-registry.local:5000}; fi
  # Only the node's own link and the loopback are trusted without TLS.
  case $registry in 10.99.*:* | 127.0.0.1:* | localhost:*) tls=false ;; *) tls=true ;; esac
}

# Storage of our own: it goes when the cache goes, and nobody else's images are touched.
buildah() { command buildah --root "$cache/storage" --runroot "$run" --storage-driver overlay "$@"; }

exists() {
  if [ "$engine" = docker ]; then docker image inspect "$1" >/dev/null 2>&1; else buildah inspect --type image "$1" >/dev/null 2>&1; fi
}

open_storage() {  # the lock is held: whatever is there was left by a killed run
  rm -rf "$cache"/.base.* "$cache"/.run.*
  [ "$engine" = buildah ] || return 0
  run=$(mktemp -d "$cache/.run.XXXXXX")
  trap 'rm -rf "$run"' EXIT
  if [ -n "$(buildah containers -q)" ]; then buildah rm --all >/dev/null; fi
}

import_rootfs() {  # tar name
  local container
  container=$(buildah from scratch)
  buildah add -q "$container" "$1" / >/dev/null
  buildah config --cmd '["bash"]' --label org.opencontainers.image.title="Debian 12 with Python 3.11" "$container"
  buildah commit -q --rm "$container" "$2" >/dev/null
}

build() {  # Dockerfile name KEY=VALUE...
  local file=$1 name=$2 arguments=() log
  shift 2
  for argument in "$@"; do arguments+=(--build-arg "$argument"); done
  log=$cache/$(basename "$(dirname "$file")").log
  if [ "$engine" = docker ]; then
    docker build --network host -f "$file" -t "$name" "${arguments[@]}" . >"$log" 2>&1 && return
  else
    # The machine's certificates lie over the image's while it is built, and stay in none of its layers.
    buildah bud --isolation chroot --network host --layers --pull=never --volume /etc/ssl/certs:/etc/ssl/certs:ro \
      -f "$file" -t "$name" "${arguments[@]}" . >"$log" 2>&1 && return
  fi
  tail -n 40 "$log" >&2
  die "$file did not build; the whole log is $log"
}

push() {  # name target file-for-the-digest
  if [ "$engine" = docker ]; then
    docker tag "$1" "$2"
    docker push -q "$2" >/dev/null
    docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$2" | sed -n "s|^${2%:*}@||p" | head -n1 >"$3"
  else
    # zstd at its fastest: several times quicker than gzip for the torch layer, and containerd reads it since 1.5.
    buildah push -q --tls-verify="$tls" --compression-format zstd --compression-level 1 --digestfile "$3" "$1" "docker://$2" >/dev/null
  fi
}

is_pushed() {  # reference with a digest
  if [ "$engine" = docker ]; then
    docker manifest inspect --insecure="$([ "$tls" = false ] && echo true || echo false)" "$1" >/dev/null 2>&1
  else
    skopeo inspect --raw --tls-verify="$tls" "docker://$1" >/dev/null 2>&1
  fi
}

remove_others() {  # image key: older builds of the same image, and layers that no named image stands on any more
  local repository=localhost/sandbox-operator/$1 old
  if [ "$engine" = docker ]; then
    docker image ls --format '{{.Repository}}:{{.Tag}}' "$repository" | grep -v ":$2$" | xargs -r docker image rm >/dev/null || true
    return
  fi
  old=$(buildah images --format '{{.Name}}:{{.Tag}}' | grep "^$repository:" | grep -v ":$2$" || true)
  for name in $old; do buildah rmi --force "$name" >/dev/null || true; done
  buildah rmi --prune >/dev/null || true
}
