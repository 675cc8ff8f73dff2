# SPDX-License-Identifier: Apache-2.0
# Says in one message all that keeps the node from running on this machine.

NODE_COMMANDS=(runc iptables ip conntrack socat ethtool nsenter unshare flock openssl curl python3 gcc buildah skopeo busybox mmdebstrap dpkg-deb)
# The Debian packages that these commands come from; the CNI plugins have no command in PATH.
NODE_PACKAGES=(runc iptables iproute2 conntrack socat ethtool util-linux openssl curl python3 gcc libc6-dev buildah skopeo busybox-static mmdebstrap dpkg
  containernetworking-plugins ca-certificates)
CNI_PLUGINS=/usr/lib/cni

missing_commands() {
  local command
  for command in "${NODE_COMMANDS[@]}"; do command -v "$command" >/dev/null || echo "$command"; done
  [ -x $CNI_PLUGINS/bridge ] || echo containernetworking-plugins
}

go_is_new_enough() {
  local version
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  version=${version#go}
  [ "$(printf '%s\n' "$GO_MINIMUM" "${version%%[-rb]*}" | sort -V | head -1)" = "$GO_MINIMUM" ]
}

obstacles() {
  [ "$(uname -s)" = Linux ] || { echo "this is $(uname -s): the node needs Linux's namespaces and cgroups"; return; }
  [ "$(id -u)" = 0 ] || echo "not root: the node makes namespaces, cgroups and a network link"
  go_binaries_are_cached || go_is_new_enough || echo "no Go $GO_MINIMUM or newer in PATH: Kubernetes is built from its modules, once"
  if ! command -v apt-get >/dev/null; then
    local missing
    missing=$(missing_commands | paste -sd' ')
    [ -z "$missing" ] || echo "no apt-get to install what is missing: $missing"
    debian_binaries_are_cached || echo "no apt-get to download containerd $CONTAINERD_SERIES and etcd $ETCD_SERIES"
  fi
  grep -qw overlay /proc/filesystems || echo "the kernel has no overlay file system, which containers' root folders are made of"
  local on
  on=$(mkdir -p "$CACHE" && stat -f -c %T "$CACHE") || on=unwritable
  case $on in
    overlayfs) echo "$CACHE lies on an overlay file system, which cannot hold another one: set SANDBOX_CACHE to a folder on a disk or a volume" ;;
    unwritable) echo "$CACHE cannot be made: set SANDBOX_CACHE to a folder you may write to" ;;
  esac
  cgroups_obstacle
}

preflight() {
  local found
  found=$(obstacles)
  [ -z "$found" ] && return
  {
    echo "cluster: the embedded node cannot run here:"
    sed 's/^/  - /' <<<"$found"
    echo "To use the cluster of your current kube context instead: CLUSTER=current make demo"
  } >&2
  exit 1
}
