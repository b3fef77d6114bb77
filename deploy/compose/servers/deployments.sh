#!/bin/sh
# Tells Prefect's server the work pool and the deployments; asks for the first run of each sample line that has published nothing yet.
set -eu
prefect work-pool create factory --type process --overwrite
prefect work-pool create approvals --type process --overwrite
prefect --no-prompt deploy --all --prefect-file deploy/prefect.yaml
for line in camera plant; do
  [ -e "out/release/$line/champion.json" ] || prefect deployment run "pipeline/$line"
done
