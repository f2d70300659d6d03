#!/usr/bin/env bash
# Fuzzes the API by its contract, with schemathesis, on an instance of its own: every operation, as a tenant's user and as a
# platform administrator, with real objects to find. Ends with a line "requests N failed M".
#   N     the least number of requests (default 3000)
#   SEED  makes what is generated the same again (default: by the clock, and printed)
# It ends with 3 where neither python nor what it needs of PyPI can be had: then nothing was asked.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/ci/instance.sh
out=$PWD/out/fuzz
mkdir -p "$out"
rm -f "$out"/*.log "$out"/*.jsonl

# What is installed stays as long as the list of versions is the same.
if ! cmp -s scripts/ci/fuzz/requirements.txt "$out/venv/requirements.txt"; then
  echo "fuzz: installing $(grep ^schemathesis scripts/ci/fuzz/requirements.txt) into out/fuzz/venv"
  rm -rf "$out/venv"
  if ! python3 -m venv "$out/venv" ||
    ! "$out/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement scripts/ci/fuzz/requirements.txt; then
    echo "fuzz: python3 with venv, or PyPI, cannot be had here" >&2
    exit 3
  fi
  cp scripts/ci/fuzz/requirements.txt "$out/venv/"
fi

export GPUAAS_SIM_NODES=${GPUAAS_SIM_NODES:-24} FUZZ_OUT=$out
start_instance fuzz "$out"
# What Stripe signs its webhooks with, and what it knows the platform by.
for name in STRIPE_WEBHOOK_SECRET STRIPE_SECRET_KEY; do
  export "$name=$(bin/devstack env | sed -n "s/^export $name='\{0,1\}\([^']*\)'\{0,1\}$/\1/p")"
done
"$out/venv/bin/python" scripts/ci/fuzz/fuzz.py
