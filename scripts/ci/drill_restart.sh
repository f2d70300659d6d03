#!/usr/bin/env bash
# The restart drill (bench/drill): builds what it kills and lets the oracle judge. PLANT and SEED choose the storm; arguments
# go to the drill. The programs were built by make drill-restart.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local
exec bin/drill restart "$@"
