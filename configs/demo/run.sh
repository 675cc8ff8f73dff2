#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo from nothing to its table: cluster, images, Helm, data, one experiment, what it found.
#
# usage: run.sh [clean]
#   CLUSTER=current   use the current kube context instead of the embedded node; then SANDBOX_REGISTRY says where images
#                     are pushed to, or OPERATOR_IMAGE and DATA_IMAGE name images that are there already
#   KEEP=1            go on with an experiment of an earlier run instead of starting anew
set -euo pipefail
cd "$(dirname "$0")/../.."

export SANDBOX_CACHE=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-operator}
export PATH="$PWD/.venv/bin:$SANDBOX_CACHE/bin/uv/bin:$PATH"
namespace=sandbox-demo system=sandbox-system name=demo
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

images() {
  if [ -z "${OPERATOR_IMAGE:-}" ] || [ -z "${DATA_IMAGE:-}" ]; then
    images/build.sh operator data >/dev/null
    # shellcheck source=/dev/null
    source "$SANDBOX_CACHE/images/images.env"
  fi
}

if [ "${1:-}" = clean ]; then
  use_cluster
  kubectl delete namespace $namespace --ignore-not-found
  helm uninstall sandbox-operator -n $system --ignore-not-found
  exit
fi

step "cluster"
use_cluster

step "images"
images
echo "operator $OPERATOR_IMAGE"
echo "data     $DATA_IMAGE"

step "Helm: the resources' definitions, then the operator"
# A release left half-way by an interrupted run would refuse every later one.
kubectl -n $system delete secret -l 'owner=helm,status in (pending-install,pending-upgrade,pending-rollback)' --ignore-not-found >/dev/null
helm upgrade --install sandbox-operator-crds helm/sandbox-operator-crds -n $system --create-namespace --take-ownership --wait >/dev/null
helm upgrade --install sandbox-operator helm/sandbox-operator -n $system --wait --timeout 5m \
  --set image="$OPERATOR_IMAGE" --set images.data="$DATA_IMAGE" >/dev/null
kubectl -n $system get pods

step "data: real English and Chinese text, with known noise mixed in"
kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
if [ -z "${KEEP:-}" ]; then kubectl -n $namespace delete sbx,job,pvc --all --wait >/dev/null; fi
data=$SANDBOX_CACHE/demo/demo.jsonl.gz
configs/demo/make_data.sh "$data"
kubectl -n $namespace create configmap demo-data --from-file="$data" --dry-run=client -o yaml |
  kubectl apply --server-side --force-conflicts -f - >/dev/null

step "kubectl apply -f configs/demo/experiment.yaml"
kubectl -n $namespace apply -f configs/demo/experiment.yaml
sandboxctl watch $name -n $namespace

step "what was caught of the noise, and what it cost"
kubectl -n $namespace create configmap demo-report --from-file=configs/demo/report.py --dry-run=client -o yaml | kubectl apply -f - >/dev/null
output() { kubectl -n $namespace get sbx $name -o jsonpath="{.status.jobs[?(@.metaName==\"$1\")].outputs.$2}"; }
claim=$(kubectl -n $namespace get sbx $name -o jsonpath='{.status.workspace.claimName}')
sed -e "s|IMAGE|$DATA_IMAGE|; s|CLAIM|$claim|; s|PROCESSED|/workspace/$(output process processed)|" configs/demo/report-job.yaml |
  kubectl -n $namespace replace --force --grace-period=0 -f - >/dev/null
kubectl -n $namespace wait --for=condition=Complete --timeout=120s job/demo-report >/dev/null
kubectl -n $namespace logs job/demo-report | grep -v '^{'   # the line for programs
printf '\n[%4ds] done. Again: make demo. Away with it: make demo-clean, make cluster-down.\n' "$SECONDS"
[ "${CLUSTER:-embedded}" = current ] || echo "For kubectl, helm and sandboxctl in your own shell, first: eval \"\$(cluster/cluster env)\""
