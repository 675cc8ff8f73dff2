#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bench experiments at tiny size, from nothing: cluster, images, Helm, clips, the three experiments one after another on one
# volume, what each changed; then the leaderboard on a sample, and its winner on all clips.
#
# usage: run.sh [clean]
#   CLUSTER=current   see configs/demo/install.sh
#   KEEP=1            go on with the experiments of an earlier run instead of starting anew
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=configs/demo/install.sh
source configs/demo/install.sh
namespace=sandbox-demo-bench

if [ "${1:-}" = clean ]; then
  clean
  exit
fi

apply() {  # file, values: applied in that size
  step "sandboxctl render $1 --values $2 | kubectl apply -f -"
  sandboxctl render "$1" --values "$2" | kubectl -n $namespace apply -f -
}

step "cluster"
use_cluster

step "images"
images operator data easyanimate vbench

step "Helm: the resources' definitions, then the operator"
install data easyanimate vbench

step "clips cut from real videos with captions in two languages, and a tiny model"
make_namespace
fetch_videos
parts=$(mktemp -d "$SANDBOX_CACHE/demo-videos.XXXXXX")
trap 'rm -rf "$parts"' EXIT
split -b 600k -d -a 1 "$videos/bigbuckbunny.mp4" "$parts/bigbuckbunny.mp4."   # larger than a ConfigMap may be
apply_config_map bench-bikes "$videos/bikes.mp4"
apply_config_map bench-carphone "$videos/carphone_pristine.mp4"
for part in 0 1; do apply_config_map bench-bunny-$part "$parts/bigbuckbunny.mp4.$part"; done
apply_config_map bench-scripts configs/bench/make_data.py
apply_config_map bench-prompts configs/bench/VBench_mini_info.json
sed "s|IMAGE|$EASYANIMATE_IMAGE|" configs/bench/data-job.yaml | kubectl -n $namespace apply -f - >/dev/null
kubectl -n $namespace wait --for=condition=Complete --timeout=300s job/bench-data >/dev/null ||
  { kubectl -n $namespace describe job/bench-data; kubectl -n $namespace logs job/bench-data; exit 1; }
kubectl -n $namespace logs job/bench-data

for experiment in 1_single_op:bench-single-op 2_multi_op:bench-multi-op 3_duplicate:bench-duplicate; do
  apply "configs/bench/${experiment%:*}.yaml" configs/bench/tiny.yaml
  sandboxctl watch "${experiment#*:}" -n $namespace
done
step "one operator, several; one epoch, two"
sandboxctl compare bench-single-op bench-multi-op -n $namespace
sandboxctl compare bench-multi-op bench-duplicate -n $namespace

apply configs/bench/leaderboard.yaml configs/bench/leaderboard-tiny.yaml
sandboxctl watch leaderboard -n $namespace
sandboxctl compare leaderboard -n $namespace
step "sandboxctl promote leaderboard: its winner's recipe, on all clips"
sandboxctl promote leaderboard -n $namespace --dataset inputs/data/all.jsonl --values configs/bench/promoted-tiny.yaml |
  kubectl -n $namespace apply -f -
sandboxctl watch leaderboard-promoted -n $namespace
sandboxctl compare leaderboard-promoted -n $namespace
farewell demo-bench
