#!/usr/bin/env bash
# Prints deploy/env.example: every variable of every program, from what their --help says.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local
programs=(api billing-worker provisioning-worker webhook-worker outbox-relay notification-relay node-agent db-init appoint-admin)
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" "${programs[@]/#/./cmd/}"

cat <<'HEAD'
# Every variable of every program, generated from their --help by make codegen. A line that is commented out shows the default;
# the others must be set. The programs check them at start, with one sentence a mistake.
HEAD
for program in "${programs[@]}"; do
  "$bin/$program" --help | awk -v program="$program" '
    /^  [A-Z]/ {
      sub(/^  /, ""); n = split($0, column, /  +/)
      print program "\t" column[1] "\t" (n > 2 ? column[2] : "") "\t" column[n]
    }'
done | awk -F '\t' '
  !($2 in seen) { order[++count] = $2; seen[$2] = 1; value[$2] = $3; meaning[$2] = $4 }
  { readers[$2] = readers[$2] (readers[$2] == "" ? "" : ", ") $1 }
  END {
    for (i = 1; i <= count; i++) {
      name = order[i]
      printf "\n# %s (%s)\n", meaning[name], readers[name]
      if (value[name] == "(required)") printf "%s=\n", name
      else printf "#%s=%s\n", name, value[name]
    }
  }'
