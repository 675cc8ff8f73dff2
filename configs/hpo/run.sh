#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The search from nothing to its best recipe: cluster, images, Helm, data and a classifier, twelve trials three at a time.
#
# usage: run.sh [clean]
#   CLUSTER=current   see configs/demo/install.sh
#   KEEP=1            go on with a search of an earlier run instead of starting anew
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=configs/demo/install.sh
source configs/demo/install.sh
namespace=sandbox-demo-sweep name=hpo

if [ "${1:-}" = clean ]; then
  clean
  exit
fi

step "cluster"
use_cluster

step "images"
images operator data

step "Helm: the resources' definitions, then the operator"
install data

step "data: real English text with known noise mixed in, and a quality classifier that learnt from half of it"
kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
if [ -z "${KEEP:-}" ]; then kubectl -n $namespace delete sbsw,sbx,job,pvc --all --wait >/dev/null; fi
data=$SANDBOX_CACHE/demo/demo.jsonl.gz
configs/demo/make_data.sh "$data"
apply_config_map demo-data "$data"
apply_config_map hpo-scripts configs/hpo/split.py
sed "s|IMAGE|$DATA_IMAGE|" configs/hpo/data-job.yaml | kubectl -n $namespace apply -f - >/dev/null
kubectl -n $namespace wait --for=condition=Complete --timeout=300s job/hpo-data >/dev/null ||
  { kubectl -n $namespace describe job/hpo-data; kubectl -n $namespace logs job/hpo-data; exit 1; }
kubectl -n $namespace logs job/hpo-data

step "kubectl apply -f configs/hpo/sweep.yaml"
kubectl -n $namespace apply -f configs/hpo/sweep.yaml
told=
until [ -n "$(kubectl -n $namespace get sbsw $name -o jsonpath='{.status.completionTime}')" ]; do
  now=$(kubectl -n $namespace get sbsw $name -o jsonpath='{.status.progress} {.status.conditions[?(@.type=="Ready")].message}')
  if [ "$now" != "$told" ]; then printf '[%4ds] %s\n' "$SECONDS" "$now"; told=$now; fi
  stalled=$(kubectl -n $namespace get sbsw $name -o jsonpath='{.status.conditions[?(@.type=="Stalled")].message}')
  [ -z "$stalled" ] || { echo "$stalled" >&2; exit 1; }
  sleep 2
done
kubectl -n $namespace get sbsw $name -o wide
kubectl -n $namespace wait --for=condition=Ready --timeout=10s sbsw/$name >/dev/null

step "trials"
kubectl -n $namespace get sbsw $name -o json | python3 configs/hpo/table.py

step "sandboxctl sweep verify $name: each suggestion computed again"
sandboxctl sweep verify $name -n $namespace

step "sandboxctl export recipe --sweep $name"
sandboxctl export recipe --sweep $name -n $namespace
farewell demo-sweep
