# SPDX-License-Identifier: Apache-2.0
# Installs and builds the binaries, once for each version. A tool's folder appears by one rename when it is whole:
# whoever finds $CACHE/bin/TOOL-VERSION may use it, and a build that was killed leaves nothing that looks like one.

GPU_PLUGIN_BIN=$CACHE/bin/gpu-plugin-$(cat "$HERE"/kubernetes/go.sum "$HERE"/kubernetes/gpu-plugin/main.go | sha256sum | cut -c1-12)
GO_TOOLS=("$K8S_BIN" "$HELM_BIN" "$COREDNS_BIN" "$REGISTRY_BIN" "$GPU_PLUGIN_BIN" "$KWOK_BIN")
DEBIAN_TOOLS=("$CONTAINERD_BIN" "$ETCD_BIN")

all_exist() { local path; for path; do [ -e "$path" ] || return 1; done; }
go_binaries_are_cached() { all_exist "${GO_TOOLS[@]}"; }
debian_binaries_are_cached() { all_exist "${DEBIAN_TOOLS[@]}"; }

tools() {
  [ -z "$(missing_commands)" ] && go_binaries_are_cached && debian_binaries_are_cached && [ -e "$PAUSE_BIN" ] && return
  (
    hold_build_lock
    install_packages
    provide_kubernetes
    provide "$GPU_PLUGIN_BIN" "building the fake GPUs' device plugin" build_gpu_plugin
    provide "$REGISTRY_BIN" "building the image registry $REGISTRY_VERSION (about 1 min, once)" \
      go_install registry github.com/distribution/distribution/v3/cmd/registry@v$REGISTRY_VERSION
    provide "$COREDNS_BIN" "building CoreDNS $COREDNS_VERSION (about 1.5 min, once)" go_install coredns github.com/coredns/coredns@v$COREDNS_VERSION
    provide "$HELM_BIN" "building Helm $HELM_VERSION (about 1 min, once)" \
      go_install helm helm.sh/helm/v3/cmd/helm@v$HELM_VERSION -X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION
    provide_kwok
    provide "$CONTAINERD_BIN" "downloading containerd $CONTAINERD_SERIES" debian_13 containerd containerd containerd-shim-runc-v2 ctr
    provide_etcd
    provide "$PAUSE_BIN" "building the pause image" build_pause
  )
  [ $? = 0 ] || exit 1
}

# What a control plane without a node needs, and kwok where it shall have fake nodes; no root needed for it.
# plane_tools [kwok]
plane_tools() {
  all_exist "$K8S_BIN" "$ETCD_BIN" ${1:+"$KWOK_BIN"} && return
  (
    hold_build_lock
    provide_kubernetes
    provide_etcd
    if [ -n "${1:-}" ]; then provide_kwok; fi
  )
  [ $? = 0 ] || exit 1
}

# One builds at a time. The processes of a build inherit the lock, so those that outlive a killed caller are waited for.
hold_build_lock() {
  mkdir -p "$CACHE/bin"
  exec 9>"$CACHE/bin/.lock"
  flock -n 9 || { say "waiting for another build of the tools"; flock 9; }
  rm -rf "$CACHE/bin"/.new-*
}

provide_kubernetes() { provide "$K8S_BIN" "building Kubernetes $KUBERNETES_VERSION (4 to 5 min on two cores, once)" build_kubernetes; }
provide_kwok() {
  provide "$KWOK_BIN" "building kwok $KWOK_VERSION (about 2.5 min, once)" \
    go_install kwok sigs.k8s.io/kwok/cmd/kwok@v$KWOK_VERSION -X sigs.k8s.io/kwok/pkg/consts.Version=v$KWOK_VERSION
}
provide_etcd() { provide "$ETCD_BIN" "downloading etcd $ETCD_SERIES" debian_13 etcd-server etcd; }

# provide FOLDER WHAT FUNCTION [ARGUMENT...]: calls FUNCTION with a new folder before the other arguments, and renames it.
provide() {
  local folder=$1 what=$2 build=$3 new log
  shift 3
  [ -e "$folder" ] && return
  say "$what"
  new=$CACHE/bin/.new-${folder##*/} log=$CACHE/bin/${folder##*/}.log
  mkdir -p "$new"
  # On a line of its own: inside a condition bash would ignore `set -e`.
  (set -e; "$build" "$new" "$@") >"$log" 2>&1
  [ $? = 0 ] || { tail -n 5 "$log" >&2; die "failed: $what (the whole output: $log)"; }
  rm -f "$log"
  mv "$new" "$folder"
}

install_packages() {
  local missing log=$CACHE/bin/apt.log
  missing=$(missing_commands | paste -sd' ')
  [ -z "$missing" ] && return
  say "installing Debian packages for: $missing"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${NODE_PACKAGES[@]}"; } >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; die "apt-get could not install them (the whole output: $log)"; }
  missing=$(missing_commands | paste -sd' ')
  [ -z "$missing" ] || die "still missing after apt-get install: $missing"
  rm -f "$log"
}

go_build() { GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS=-buildvcs=false nice -n 5 go "$@"; }

build_kubernetes() {
  local version=k8s.io/component-base/version minor
  minor=${KUBERNETES_VERSION#1.} minor=${minor%%.*}
  # Unstamped, the server calls itself v0.0.0-master, and feature gates and clients trip over it.
  cd "$HERE/kubernetes"
  go_build build -trimpath -o "$1/" -ldflags "-s -w -X $version.gitVersion=v$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=$minor \
-X $version.gitTreeState=clean -X $version.gitCommit=unknown -X $version.buildDate=1970-01-01T00:00:00Z" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
}

build_gpu_plugin() {
  cd "$HERE/kubernetes"
  go_build build -trimpath -o "$1/" -ldflags "-s -w" ./gpu-plugin
}

# go_install FOLDER BINARY MODULE@VERSION [LINKER FLAG...]
go_install() {
  local folder=$1 module=$3
  shift 3
  GOBIN=$folder go_build install -trimpath -ldflags "-s -w $*" "$module"
}

# debian_13 FOLDER PACKAGE BINARY...: binaries of a Debian 13 package, without touching the machine's own list of packages.
# Debian 12's containerd is too old for this Kubernetes, and it has no etcd of this series.
debian_13() {
  local folder=$1 package=$2 apt=$1/.apt binary
  shift 2
  mkdir -p "$apt"/{lists/partial,archives/partial,sources,unpacked}
  chmod 755 "$apt"
  debian_sources >"$apt/sources/debian.sources"
  local options=(-o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt" -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$apt/sources"
    -o "Dir::State::status=/dev/null" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$apt/archives" && apt-get "${options[@]}" download "$package")
  dpkg-deb -x "$apt/archives/$package"_*.deb "$apt/unpacked"
  for binary; do mv "$apt/unpacked/usr/bin/$binary" "$folder/"; done
  rm -rf "$apt"
}

# The machine's own Debian source, from wherever it gets its packages, with the suite replaced.
debian_sources() {
  local address
  address=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
  [ -n "$address" ] || address=$(sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -1)
  [ -n "$address" ] || { echo "no Debian source in /etc/apt/sources.list or /etc/apt/sources.list.d/debian.sources" >&2; return 1; }
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$address"
}

# The image of the process that holds a pod's namespaces; a storage of its own leaves nothing in the machine's.
build_pause() {
  local folder=$1 container
  local buildah=(buildah --root "$folder/.storage" --runroot "$folder/.run" --storage-driver vfs)
  gcc -Os -static -s -o "$folder/pause" "$HERE/pause.c"
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" copy "$container" "$folder/pause" /pause
  "${buildah[@]}" config --entrypoint '["/pause"]' "$container"
  "${buildah[@]}" commit "$container" "oci-archive:$folder/pause.tar:localhost/pause:$PAUSE_VERSION"
  rm -rf "$folder/.storage" "$folder/.run"
}
