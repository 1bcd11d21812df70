#!/usr/bin/env bash
# Deploy a new app to an emulated workspace, ask it something, and remove it. PORT is the emulator's.
set -euo pipefail

folder=$(mktemp -d)
cd "$folder"
lakemesh init shop

export DATABRICKS_HOST=http://127.0.0.1:${PORT:-8100} DATABRICKS_TOKEN=emulator-of-the-example
export BUNDLE_VAR_warehouse_id=emulator
lakemesh workspace --home "$folder/workspace" --port "${PORT:-8100}" --token $DATABRICKS_TOKEN 2> "$folder/log" &
emulator=$!
trap 'kill $emulator; wait $emulator || true; rm -rf "$folder"' EXIT
curl --silent --output /dev/null --retry 50 --retry-delay 1 --retry-connrefused "$DATABRICKS_HOST"

cd shop
lakemesh apply
lakemesh verify
lakemesh execute echo '{"message": "hello"}' --environment dev
lakemesh destroy --yes
