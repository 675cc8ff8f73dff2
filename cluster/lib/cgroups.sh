# SPDX-License-Identifier: Apache-2.0
# The node's place in the cgroup tree, in version 1 (one tree for each controller) and version 2 (one tree).
# The node sees this place as its root, so that the kubelet's own cgroups lie below it and go with it.

CGROUP=sandbox-cluster-$NAME

cgroup_version() { case $(stat -f -c %T /sys/fs/cgroup 2>/dev/null) in cgroup2fs) echo 2 ;; tmpfs) echo 1 ;; esac; }

cgroups_obstacle() {
  case $(cgroup_version) in
    2) local controller
      for controller in cpu memory pids; do
        grep -qw $controller /sys/fs/cgroup/cgroup.controllers || echo "the cgroup controller $controller is not available"
      done ;;
    1) local controller
      for controller in cpu memory pids; do
        [ -d /sys/fs/cgroup/$controller ] || echo "the cgroup controller $controller is not mounted"
      done ;;
    *) echo "no cgroups under /sys/fs/cgroup" ;;
  esac
}

# Version 1: lines "MOUNT OPTIONS PATH" of this process: "memory memory /user", "systemd none,name=systemd /".
cgroup_trees() {
  local id names path
  while IFS=: read -r id names path; do
    [ -n "$names" ] || continue
    [ -d "/sys/fs/cgroup/${names#name=}" ] || continue
    case $names in name=*) echo "${names#name=} none,$names $path" ;; *) echo "$names $names $path" ;; esac
  done </proc/self/cgroup
}

node_cgroups() { find /sys/fs/cgroup -type d -name "$CGROUP" 2>/dev/null; }

# Moves the calling process into a new cgroup: below its own in version 1, so that limits set on the caller hold for the node;
# at the top in version 2, where a cgroup with processes of its own cannot share controllers out. Status 1 when it is not let.
enter_cgroup() {
  local mount options path place controller
  if [ "$(cgroup_version)" = 2 ]; then
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
    done
    mkdir -p "/sys/fs/cgroup/$CGROUP" && echo $BASHPID >"/sys/fs/cgroup/$CGROUP/cgroup.procs"
    return
  fi
  while read -r mount options path; do
    place=/sys/fs/cgroup/$mount${path%/}/$CGROUP
    mkdir -p "$place" || return
    if [ -e "$place/cpuset.cpus" ]; then   # a new cpuset is empty and takes no process until it has both
      cat "${place%/*}/cpuset.cpus" >"$place/cpuset.cpus"
      cat "${place%/*}/cpuset.mems" >"$place/cpuset.mems"
    fi
    echo $BASHPID >"$place/cgroup.procs" || return
  done < <(cgroup_trees)
}

# Inside the node, in a cgroup namespace whose root is the node's place. Takes "MOUNT OPTIONS PATH" lines for version 1.
mount_cgroups() {
  local mount options path
  if [ "$1" = 2 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    return
  fi
  mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
  while read -r mount options path; do
    mkdir -p "/sys/fs/cgroup/$mount"
    mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$mount"
    case $mount in *,*) for path in ${mount//,/ }; do ln -s "$mount" "/sys/fs/cgroup/$path"; done ;; esac
  done <<<"$2"
}

# Ends every process in the node's cgroups, whoever started it, and removes them.
end_cgroups() {
  local place tries procs
  for ((tries = 0; tries < 100; tries++)); do
    procs=0
    while read -r place; do
      while read -r pid; do
        kill -9 "$pid" 2>/dev/null
        procs=1
      done < <(find "$place" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
      [ $procs = 1 ] || find "$place" -depth -type d -exec rmdir {} + 2>/dev/null
    done < <(node_cgroups)
    [ -z "$(node_cgroups)" ] && return
    sleep 0.05
  done
  die "processes or cgroups that do not end: $(node_cgroups | paste -sd' ')"
}
