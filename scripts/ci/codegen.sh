#!/usr/bin/env bash
# Generates everything that is generated: constants, bundles, the Go client and the TypeScript types.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/ci/tools.sh

echo "codegen: constants and bundled contracts from schema/"
go run ./schema/generate
echo "codegen: the Go client by oapi-codegen ${OAPI_CODEGEN_VERSION}"
oapi_codegen -config client/go/oapi-codegen.yaml schema/openapi.yaml
echo "codegen: the TypeScript types by openapi-typescript"
(cd client/ts && npm ci --no-audit --no-fund --silent && npm run --silent generate && npm run --silent check)
echo "codegen: deploy/env.example from what the programs say of themselves"
scripts/ci/env_example.sh >deploy/env.example.next
mv deploy/env.example.next deploy/env.example
