# SPDX-License-Identifier: Apache-2.0
# Writes what the node's processes read, into $STATE/etc and $STATE/pki. Starts nothing.

PKI=$STATE/pki
ETC=$STATE/etc

configure() {
  mkdir -p "$STATE"/{etc/cni,"etc/certs.d/$REGISTRY_ALIAS",pki,log,run,etcd,kubelet,containerd,pods,registry,volumes,tmp}
  chmod 700 "$STATE"   # what lies in it may be readable for all, as containers need; nobody else gets this far
  (umask 077; credentials) || exit 1
  containerd_configuration
  network_configuration
  kubelet_configuration
  dns_configuration
  registry_configuration
}

credentials() {
  make_authority "$NAME"
  make_certificate api-server /CN=kube-apiserver serverAuth "IP:$NODE_IP,IP:$API_SERVICE_IP,DNS:kubernetes.default.svc,DNS:kubernetes.default,DNS:kubernetes,\
DNS:kubernetes.default.svc.cluster.local"
  make_certificate api-server-to-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  make_certificate kubelet "/O=system:nodes/CN=system:node:$NODE" serverAuth "IP:$NODE_IP,DNS:$NODE"
  make_signing_key
  make_users "$API_SERVER" <<U
admin admin system:masters
controller-manager system:kube-controller-manager
scheduler system:kube-scheduler
kubelet system:node:$NODE system:nodes
proxy system:kube-proxy
dns sandbox:dns
provisioner sandbox:provisioner
U
}

containerd_configuration() {
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc fails on the scores that the kubelet asks for.
  cat >"$ETC/containerd.toml" <<T
version = 2
root = "$STATE/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:$PAUSE_VERSION"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$ETC/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$CNI_PLUGINS"
    conf_dir = "$ETC/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/containerd/opt"
T
  cat >"$ETC/certs.d/$REGISTRY_ALIAS/hosts.toml" <<T
server = "http://$REGISTRY"
[host."http://$REGISTRY"]
  capabilities = ["pull", "resolve"]
T
}

network_configuration() {
  cat >"$ETC/cni/10-bridge.conflist" <<T
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
T
}

kubelet_configuration() {
  : >"$ETC/resolv.conf"   # pods ask the cluster's DNS and nobody else
  cat >"$ETC/kubelet.yaml" <<T
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
enforceNodeAllocatable: [pods]
failSwapOn: false
# The disk is the user's own: it being full elsewhere must neither evict pods nor delete images.
evictionHard: {memory.available: 100Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageMaximumGCAge: 12h
resolvConf: $ETC/resolv.conf
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
serializeImagePulls: false
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 5s
syncFrequency: 5s
fileCheckFrequency: 5s
runtimeRequestTimeout: 1m
volumeStatsAggPeriod: 0s
T
}

dns_configuration() {
  cat >"$ETC/Corefile" <<T
cluster.local in-addr.arpa ip6.arpa {
  bind $NODE_IP
  errors
  kubernetes {
    kubeconfig $ETC/dns.kubeconfig sandbox
  }
}
# There is no way out of the node: a name outside the cluster does not exist, and a pod learns it at once.
. {
  bind $NODE_IP
  errors
  template ANY ANY {
    rcode NXDOMAIN
  }
}
T
}

registry_configuration() {
  cat >"$ETC/registry.yaml" <<T
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $STATE/registry}, delete: {enabled: true}}
http: {addr: "$REGISTRY"}
T
}
