#!/usr/bin/env bash
# Generates everything anew, builds both clients in a clean directory as somebody who depends on them would, and lets each
# make a call against a real instance. With CODEGEN_ENFORCE_CLEAN=1 a generated file that was stale is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
. scripts/ci/instance.sh
if [ "${CODEGEN_ENFORCE_CLEAN:-}" = 1 ]; then
  scripts/ci/codegen_clean.sh
else
  scripts/ci/codegen.sh
fi
echo "sdk: the TypeScript client's tests"
(cd client/ts && npm run --silent check && npm test --silent)

# The Go client may bring along the codes and the runtime of the generated code, and nothing of the server.
brought=$(go list -deps ./client/go | grep -E '^[a-z0-9.-]+\.[a-z]+/' | grep -vE '^github.com/(gpuaas/gpuaas/(client/go|domain/fault)|oapi-codegen/runtime(/.*)?|apapsch/go-jsonmerge/v2|google/uuid)$' || true)
[ -z "$brought" ] || { echo "sdk: the Go client brings along:" >&2; echo "$brought" >&2; exit 1; }

consumer=$(mktemp -d)
start_instance sdk "$root/out/sdk"
echo "sdk: a consumer of the Go client"
mkdir -p "$consumer/go" && cp scripts/ci/testdata/sdk/consumer.go "$consumer/go/main.go"
(
  cd "$consumer/go"
  version=$(sed -n 's/^go //p' "$root/go.mod")
  printf 'module example.com/consumer\n\ngo %s\n\nrequire github.com/gpuaas/gpuaas v0.0.0\n\nreplace github.com/gpuaas/gpuaas => %s\n' "$version" "$root" >go.mod
  go mod tidy >"$root/out/sdk/tidy.log" 2>&1 || { cat "$root/out/sdk/tidy.log" >&2; exit 1; }
  go build -o consumer . && ./consumer
)
echo "sdk: a consumer of the TypeScript client"
(cd client/ts && npm pack --silent --pack-destination "$consumer" >/dev/null)
mkdir -p "$consumer/ts" && cp scripts/ci/testdata/sdk/consumer.ts scripts/ci/testdata/sdk/tsconfig.json "$consumer/ts/"
(
  cd "$consumer/ts"
  npm init --yes >/dev/null
  npm pkg set type=module >/dev/null
  npm install --silent --no-audit --no-fund "$consumer"/gpuaas-client-*.tgz typescript@5.9.3 @types/node@20
  npx tsc --project . && node consumer.js
)
rm -rf "$consumer"
echo "sdk: both clients compile and work as their users have them"
