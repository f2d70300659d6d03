#!/usr/bin/env bash
# golangci-lint over both modules, and workflowcheck: nothing that is not deterministic within a workflow.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/ci/tools.sh

echo "lint: golangci-lint ${GOLANGCI_LINT_VERSION}"
golangci_lint run --allow-serial-runners ./...
# The development stack is a module of its own, which the pattern above does not enter.
(cd devstack && golangci_lint run --allow-serial-runners --config ../.golangci.yml ./...)
echo "lint: workflowcheck ${WORKFLOWCHECK_VERSION} over workflows/"
workflowcheck -config workflows/workflowcheck.yaml ./workflows/...
echo "lint: clean"
