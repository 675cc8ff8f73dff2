# SPDX-License-Identifier: Apache-2.0
# The node's life as the machine sees it: start, wait, look, stop. What happens inside is lib/node-init's.
#
# run/node remembers the process outside whose only child is the node's first process.
# run/ready exists once `up` has seen everything work.

node_pid() { remembered "$STATE/run/node"; }

# The name of the cluster that has the link of this index (each marks its own), empty when nobody has.
link_owner() { [ -e "/sys/class/net/$LINK" ] && { grep . "/sys/class/net/$LINK/ifalias" || echo unmarked; } 2>/dev/null; }

first_process() { cat "/proc/$1/task/$1/children" 2>/dev/null | tr -d ' '; }

binaries() { echo "${GO_TOOLS[@]}" "${DEBIAN_TOOLS[@]}"; }

start_node() {
  local version trees=""
  version=$(cgroup_version)
  [ "$version" = 2 ] || trees=$(cgroup_trees)
  rm -f "$STATE/run/ready"
  binaries >"$STATE/run/binaries"
  date -u +%Y-%m-%dT%H:%M:%SZ >"$STATE/run/started"
  (
    cd /
    enter_cgroup || exit
    remember $BASHPID "$STATE/run/node"
    exec 9>&-   # the lock is held until here: whoever gets it next finds the node's process
    export SANDBOX_CACHE=$CACHE SANDBOX_CLUSTER_NAME=$NAME SANDBOX_CLUSTER_INDEX=$INDEX LC_ALL=C.UTF-8
    # Two steps: the cgroup namespace is rooted where its maker stands. In version 2 nothing may stand there afterwards.
    exec setsid unshare --cgroup bash -c '
      if [ "$1" = 2 ]; then mkdir -p "$3/init"; echo $$ >"$3/init/cgroup.procs"; fi
      exec unshare --net --mount --pid --uts --ipc --fork --kill-child --propagation slave "$0" "$1" "$2"' \
      "$HERE/lib/node-init" "$version" "$trees" "/sys/fs/cgroup/$CGROUP"
  ) >"$STATE/log/node.log" 2>&1 </dev/null 8</proc/self/ns/net &
  disown
  until [ -e "$STATE/run/node" ] || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
}

node_is_ready() {
  local status heard gpus
  read -r status heard gpus < <(admin get node "$NODE" -o \
    'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end} {.status.allocatable.nvidia\.com/gpu}' 2>/dev/null)
  # A heartbeat from before this start is the node's previous life.
  [ "$status" = True ] && [[ ! $heard < $(cat "$STATE/run/started") ]] && [ "${gpus:-0}" = "$(cat "$ETC/gpus" 2>/dev/null || echo 0)" ]
}

admin() { "$K8S_BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

# What `up` promises, looked at from outside. Prints the first thing that is not so.
complaint() {
  [ -n "$(node_pid)" ] || { echo "the node is not running"; return; }
  [ "$(cat "$STATE/run/binaries" 2>/dev/null)" = "$(binaries)" ] || { echo "the node runs other versions"; return; }
  is_ready "$API_SERVER" || { echo "the API server does not answer"; return; }
  node_is_ready || { echo "the node is not Ready with its GPUs"; return; }
  curl -s -m 2 -o /dev/null "http://$REGISTRY/v2/" || { echo "the registry does not answer"; return; }
  inside ctr version >/dev/null 2>&1 || { echo "containerd does not answer"; return; }
  local name
  for name in kube-controller-manager kube-scheduler coredns provisioner; do
    inside sh -c "kill -0 \$(cat /run/pids/$name)" 2>/dev/null || { echo "$name is not running"; return; }
  done
  admin get serviceaccount default >/dev/null 2>&1 || { echo "the default service account is not there yet"; return; }
}

# wait_until_well SECONDS: 0 when nothing is left to complain about; else 1, and $COMPLAINT says what.
wait_until_well() {
  local deadline=$((SECONDS + $1))
  while COMPLAINT=$(complaint) && [ -n "$COMPLAINT" ]; do
    [ -n "$(node_pid)" ] && ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

# inside COMMAND...: runs it in the node's namespaces.
inside() {
  local pid
  pid=$(node_pid) && pid=$(first_process "$pid") && [ -n "$pid" ] || die "the node is not running"
  PATH=$K8S_BIN:$CONTAINERD_BIN:$ETCD_BIN:$PATH nsenter --target "$pid" --mount --pid --uts --ipc --net --cgroup "$@"
}

# Ends the node, in order if it can, and removes all that an earlier start may have left, however far it came.
stop_node() {
  local pid first tries place
  rm -f "$STATE/run/ready"
  if pid=$(node_pid) && first=$(first_process "$pid") && [ -n "$first" ]; then
    kill -TERM "$first" 2>/dev/null
    for ((tries = 0; tries < 60; tries++)); do
      [ -d "/proc/$first" ] || break
      sleep 0.05
    done
  fi
  end_cgroups
  # The link goes with the node's network namespace, which the kernel removes a moment after its last process.
  for ((tries = 0; tries < 200; tries++)); do
    case $(link_owner) in "$NAME" | unmarked) sleep 0.05 ;; *) break ;; esac
  done
  while read -r place; do rmdir "$place" 2>/dev/null; done < <(cat "$STATE/run/made" 2>/dev/null)
  rm -rf "$STATE/run" && mkdir -p "$STATE/run"
}
