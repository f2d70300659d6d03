#!/usr/bin/env bash
# Fails when a generated file is not what its source generates. Compares with the working tree and not with the
# last commit, so that it says the same before and after committing.
set -euo pipefail
cd "$(dirname "$0")/../.."

generated() {
  printf '%s\n' schema/openapi.yaml schema/asyncapi.yaml client/go/client.gen.go deploy/env.example
  find domain client/ts/src -name '*_gen.go' -o -name '*.gen.ts' | sort
}

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
generated | while read -r file; do
  [ -f "$file" ] && install -D "$file" "$before/$file"
done
scripts/ci/codegen.sh

stale=0
while read -r file; do
  if ! cmp -s "$file" "$before/$file"; then
    echo "stale: $file" >&2
    diff -u "$before/$file" "$file" | head -40 >&2 || true
    stale=1
  fi
done < <(generated)
if [ "$stale" -ne 0 ]; then
  echo "codegen: generated files were stale; they are fresh now, commit them" >&2
  exit 1
fi
echo "codegen: every generated file is what its source generates"
