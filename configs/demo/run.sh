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
  clean
  exit
fi

step "cluster"
use_cluster

step "images"
images operator data

step "Helm: the resources' definitions, then the operator"
install data

step "data: real English and Chinese text, with known noise mixed in"
make_namespace
data=$SANDBOX_CACHE/demo/demo.jsonl.gz
configs/demo/make_data.sh "$data"
apply_config_map demo-data "$data"

step "kubectl apply -f configs/demo/experiment.yaml"
kubectl -n $namespace apply -f configs/demo/experiment.yaml
sandboxctl watch $name -n $namespace

step "what was caught of the noise, and what it cost"
apply_config_map demo-report configs/demo/report.py
report configs/demo/report-job.yaml "s|IMAGE|$DATA_IMAGE|; s|PROCESSED|$(output process processed)|"
farewell demo
