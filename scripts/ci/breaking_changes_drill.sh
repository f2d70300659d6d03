#!/usr/bin/env bash
# Shows that the check for breaking changes turns red when it must, and only then: a repository with a tag is made, and the
# contract in it changed in one way at a time.
set -euo pipefail
cd "$(dirname "$0")/../.."
check=$PWD/scripts/ci/breaking_changes.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export REPOSITORY=$scratch/repository GIT_CONFIG_GLOBAL=/dev/null
git_() { git -C "$REPOSITORY" -c user.name=drill -c user.email=drill@example.com "$@"; }

mkdir -p "$REPOSITORY/schema"
git_ init --quiet
cp schema/openapi.yaml "$REPOSITORY/schema/"
git_ add .
git_ commit --quiet -m contract
cases=0 failed=0

# expect RESULT NAME [PROGRAM]: the check is green or red after the contract was changed by the Python program.
expect() {
  local result=$1 name=$2 program=${3:-}
  cases=$((cases + 1))
  git_ checkout --quiet -- schema
  [ -z "$program" ] || python3 - "$REPOSITORY/schema/openapi.yaml" <<<"$edit
$program
open(path, 'w').write(text)"
  local got=green
  "$check" >"$scratch/output" 2>&1 || got=red
  if [ "$got" != "$result" ]; then
    failed=$((failed + 1))
    echo "breaking changes drill: $name is $got, not $result" >&2
    cat "$scratch/output" >&2
  else
    echo "breaking changes drill: $name is $got, as it must be"
  fi
}
edit='
import re, sys
path = sys.argv[1]
text = open(path).read()
def change(before, after):
    global text
    assert before in text, before
    text = text.replace(before, after, 1)
def remove_path(name):
    global text
    pattern = re.compile(r"^  " + re.escape(name) + r":\n(?:   .*\n)+", re.M)
    assert pattern.search(text), name
    text = pattern.sub("", text, count=1)
'

expect green "a repository without a tag"
git_ tag v1.0.0
expect green "the contract as it was"
expect red "a removed operation" 'remove_path("/api/v1/billing/balance")'
expect red "a new required field of a request" 'change("required: [reason]", "required: [reason, ticket]"); change("        abandon_node:\n", "        ticket:\n          type: string\n        abandon_node:\n")'
expect red "a removed value of a query's enum" 'change("enum: [requested, provisioning, active, releasing, released, failed, release_failed]", "enum: [requested, provisioning, active, releasing, released, failed]")'
expect red "an answer without a field it had" 'change("balance_minor, ", ""); change("        balance_minor:\n          type: integer\n          format: int64\n          description: \"The same in whole minor units, rounded down.\"\n", "")'
expect green "a new optional field of a request" 'change("        abandon_node:\n", "        ticket:\n          type: string\n        abandon_node:\n")'
cp -r schema/openapi schema/asyncapi schema/errors.yaml schema/policy.yaml "$REPOSITORY/schema/"
git_ add .
git_ commit --quiet -m "what is authored"
expect green "the contract as it is authored"
expect red "an operation removed from what is authored, while the bundle has it still" 'path = path.replace("openapi.yaml", "openapi/billing.yaml"); text = open(path).read(); remove_path("/api/v1/billing/balance")'
git clone --quiet --depth 1 --no-tags "file://$REPOSITORY" "$scratch/shallow"
REPOSITORY=$scratch/shallow expect red "a shallow clone without tags"

echo "breaking changes drill: cases $cases failed $failed"
[ "$failed" -eq 0 ]
