#!/usr/bin/env bash
# Fails when the contract in schema/openapi/ breaks what the newest tag promised: callers who were built against that contract must go
# on working. Bundles it anew and compares that with the tag that is nearest behind HEAD, or with BASE, and prints what differs.
#   REPOSITORY  where to look instead of here (a drill uses it)
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
cd "${REPOSITORY:-$here}"
. "$here/scripts/ci/tools.sh"
contract=schema/openapi.yaml

base=${BASE:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$base" ]; then
  if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
    echo "breaking changes: this is a shallow clone without tags, so nothing can be compared; fetch with: git fetch --tags --unshallow" >&2
    exit 1
  fi
  echo "breaking changes: there is no tag yet, so nothing is promised to anybody: nothing to compare with"
  exit 0
fi
if ! git cat-file -e "$base:$contract" 2>/dev/null; then
  echo "breaking changes: $base has no $contract; it promised nothing"
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
before=$scratch/before.yaml
git show "$base:$contract" >"$before"
# What is authored counts: a bundle that was not generated again hides what was changed.
if [ -d schema/openapi ]; then
  mkdir "$scratch/now"
  cp -r schema "$scratch/now/"
  rm -f "$scratch/now/$contract"
  (cd "$here" && go run ./schema/generate "$scratch/now")
  contract=$scratch/now/$contract
fi
echo "breaking changes: oasdiff ${OASDIFF_VERSION} between $base and the working tree"
oasdiff breaking --flatten-allof --fail-on ERR "$before" "$contract" || {
  echo "breaking changes: callers built against $base would break; add instead of changing, or make it a new version of the API" >&2
  exit 1
}
echo "breaking changes: none since $base"
