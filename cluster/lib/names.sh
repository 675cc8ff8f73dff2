# SPDX-License-Identifier: Apache-2.0
# Versions, folders, names and addresses: everything that another file needs to agree on. Does nothing by itself.

KUBERNETES_VERSION=1.34.4    # the last line of releases that cgroup v1 and containerd 1.7 are both within the support of
HELM_VERSION=3.19.5
COREDNS_VERSION=1.12.4
REGISTRY_VERSION=3.0.0
KWOK_VERSION=0.7.0           # fake nodes, for `make bench-scale`
CONTAINERD_SERIES=1.7        # from Debian 13; the exact version is what apt gives
ETCD_SERIES=3.5              # the same
PAUSE_VERSION=1
GO_MINIMUM=1.24

CACHE=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-operator}
NAME=${SANDBOX_CLUSTER_NAME:-sandbox}
INDEX=${SANDBOX_CLUSTER_INDEX:-0}        # 0..255; a second node on the same machine needs a name and an index of its own
[[ $NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] || { echo "cluster: SANDBOX_CLUSTER_NAME: '$NAME' is not a lower-case name of at most 40 letters, digits and hyphens" >&2; exit 2; }
[[ $INDEX =~ ^[0-9]{1,3}$ ]] && ((10#$INDEX < 256)) || { echo "cluster: SANDBOX_CLUSTER_INDEX: '$INDEX' is not a number from 0 to 255" >&2; exit 2; }

INDEX=$((10#$INDEX))

if [ "$NAME" = sandbox ]; then STATE=$CACHE/cluster; else STATE=$CACHE/cluster-$NAME; fi
KUBECONFIG_ADMIN=$STATE/etc/admin.kubeconfig

K8S_BIN=$CACHE/bin/kubernetes-$KUBERNETES_VERSION
HELM_BIN=$CACHE/bin/helm-$HELM_VERSION
COREDNS_BIN=$CACHE/bin/coredns-$COREDNS_VERSION
REGISTRY_BIN=$CACHE/bin/registry-$REGISTRY_VERSION
KWOK_BIN=$CACHE/bin/kwok-$KWOK_VERSION
CONTAINERD_BIN=$CACHE/bin/containerd-$CONTAINERD_SERIES
ETCD_BIN=$CACHE/bin/etcd-$ETCD_SERIES
PAUSE_BIN=$CACHE/bin/pause-$PAUSE_VERSION

# The link between the machine and the node. The registry has an address of its own, but on the node's end:
# no socket is opened in the machine's own network.
NODE=$NAME-node
LINK=sbx$INDEX
LINK_SUBNET=10.99.$INDEX.0/24
REGISTRY_IP=10.99.$INDEX.1
NODE_IP=10.99.$INDEX.2
HOST_IP=10.99.$INDEX.254
REGISTRY=$REGISTRY_IP:5000               # where the machine pushes
REGISTRY_ALIAS=registry.local:5000       # what pods name; only the node's containerd knows it
API_SERVER=https://$NODE_IP:6443
SERVICES=10.96.0.0/16                    # inside the node only
API_SERVICE_IP=10.96.0.1
PODS=10.244.0.0/24                       # inside the node only
