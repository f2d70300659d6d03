#!/usr/bin/env bash
# Migrates, or migrates and seeds, the database of DATABASE_OWNER_URL; without it the running instance's.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=${GPUAAS_DATA:-.data/dev}
if [ -z "${DATABASE_OWNER_URL:-}" ] && [ -f "$data/endpoints.json" ]; then
  DATABASE_OWNER_URL=$(sed -n 's/.*"database_owner_url": *"\([^"]*\)".*/\1/p' "$data/endpoints.json" | sed 's/\\u0026/\&/g')
fi
[ -n "${DATABASE_OWNER_URL:-}" ] || { echo "database: set DATABASE_OWNER_URL, or start an instance with make dev-infra" >&2; exit 2; }
export DATABASE_OWNER_URL
case "${1:-}" in
migrate) exec go run ./cmd/db-init ;;
seed) GPUAAS_SEED=true exec go run ./cmd/db-init ;;
*) echo "database: migrate or seed" >&2; exit 2 ;;
esac
