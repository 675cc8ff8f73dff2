#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo from nothing to its table: cluster, images, Helm, data, one experiment, what it found.
#
# usage: run.sh [clean]
#   CLUSTER=current   see install.sh
#   KEEP=1            go on with an experiment of an earlier run instead of starting anew
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=configs/demo/install.sh
source configs/demo/install.sh
namespace=sandbox-demo name=demo

if [ "${1:-}" = clean ]; then
  clean $namespace
  exit
fi

step "cluster"
use_cluster

step "images"
images operator data

step "Helm: the resources' definitions, then the operator"
install data

step "data: real English and Chinese text, with known noise mixed in"
kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
if [ -z "${KEEP:-}" ]; then kubectl -n $namespace delete sbx,job,pvc --all --wait >/dev/null; fi
data=$SANDBOX_CACHE/demo/demo.jsonl.gz
configs/demo/make_data.sh "$data"
apply_config_map $namespace demo-data "$data"

step "kubectl apply -f configs/demo/experiment.yaml"
kubectl -n $namespace apply -f configs/demo/experiment.yaml
sandboxctl watch $name -n $namespace

step "what was caught of the noise, and what it cost"
apply_config_map $namespace demo-report configs/demo/report.py
output() { kubectl -n $namespace get sbx $name -o jsonpath="{.status.jobs[?(@.metaName==\"$1\")].outputs.$2}"; }
claim=$(kubectl -n $namespace get sbx $name -o jsonpath='{.status.workspace.claimName}')
sed -e "s|IMAGE|$DATA_IMAGE|; s|CLAIM|$claim|; s|PROCESSED|/workspace/$(output process processed)|" configs/demo/report-job.yaml |
  kubectl -n $namespace replace --force --grace-period=0 -f - >/dev/null
kubectl -n $namespace wait --for=condition=Complete --timeout=120s job/demo-report >/dev/null
kubectl -n $namespace logs job/demo-report | grep -v '^{'   # the line for programs
printf '\n[%4ds] done. Again: make demo. Away with it: make demo-clean, make cluster-down.\n' "$SECONDS"
[ "${CLUSTER:-embedded}" = current ] || echo "For kubectl, helm and sandboxctl in your own shell, first: eval \"\$(cluster/cluster env)\""
