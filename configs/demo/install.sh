# SPDX-License-Identifier: Apache-2.0
# What the demos share: the cluster, images, the operator by Helm. Sourced from the root of the checkout.
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

clean() {  # namespace
  use_cluster
  kubectl delete namespace "$1" --ignore-not-found
  helm uninstall sandbox-operator -n $system --ignore-not-found
}

apply_config_map() {  # namespace, name, file...
  local namespace=$1 name=$2
  shift 2
  kubectl -n "$namespace" create configmap "$name" "${@/#/--from-file=}" --dry-run=client -o yaml |
    kubectl apply --server-side --force-conflicts -f - >/dev/null
}
