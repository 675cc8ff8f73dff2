#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to videos: cluster, images, Helm, clips, one experiment that analyses, refines, processes, trains, infers and
# evaluates, and what has changed.
#
# usage: run.sh [clean]
#   CLUSTER=current   see configs/demo/install.sh
#   KEEP=1            go on with an experiment of an earlier run instead of starting anew
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=configs/demo/install.sh
source configs/demo/install.sh
namespace=sandbox-demo-full name=demo-full

if [ "${1:-}" = clean ]; then
  clean
  exit
fi

step "cluster"
use_cluster

step "images"
images operator data easyanimate

step "Helm: the resources' definitions, then the operator"
install data easyanimate

step "clips cut from real videos, and a tiny model"
make_namespace
fetch_videos
apply_config_map demo-full-bikes "$videos/bikes.mp4"
apply_config_map demo-full-carphone "$videos/carphone_pristine.mp4"
apply_config_map demo-full-scripts configs/demo-full/make_data.py configs/demo-full/report.py
sed "s|IMAGE|$EASYANIMATE_IMAGE|" configs/demo-full/data-job.yaml | kubectl -n $namespace apply -f - >/dev/null
kubectl -n $namespace wait --for=condition=Complete --timeout=300s job/demo-full-data >/dev/null ||
  { kubectl -n $namespace describe job/demo-full-data; kubectl -n $namespace logs job/demo-full-data; exit 1; }
kubectl -n $namespace logs job/demo-full-data

step "kubectl apply -f configs/demo-full/experiment.yaml"
kubectl -n $namespace apply -f configs/demo-full/experiment.yaml
sandboxctl watch $name -n $namespace

step "which clips were left, and what was made"
report configs/demo-full/report-job.yaml \
  "s|IMAGE|$EASYANIMATE_IMAGE|; s|AFTER|$(output process dataset)|; s|VIDEOS|$(output infer dir)|"
step "before and after: sandboxctl compare $name -n $namespace"
sandboxctl compare $name -n $namespace
farewell demo-full
