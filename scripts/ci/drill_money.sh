#!/usr/bin/env bash
# The money drill (bench/drill): builds what it kills and lets the oracle judge. N allocations, SEED and PLANT choose the storm; arguments go to
# the drill. The programs were built by make drill-money.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local
exec bin/drill money ${N:+-allocations "$N"} "$@"
