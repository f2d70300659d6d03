#!/usr/bin/env bash
# What people see, seen by a real browser (Chromium, driven by Playwright) on an instance of its own: Temporal's UI as operators have it, signing
# in, the checkout page, the documentation.
#   E2E_SPEC    only the specs whose names contain this
#   E2E_COUNTS  a file to append "passed failed skipped" to
#   ENDPOINTS   the endpoints.json of an instance that runs already, such as make e2e-up's (default: one of its own)
#   CHROMIUM    the browser (default: Debian's, which is installed where we are root)
# It ends with 3 where there is no browser or no npm: then nothing was looked at.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/ci/instance.sh
out=$PWD/out/e2e
mkdir -p "$out"
rm -f "$out/report.json"

command -v npm >/dev/null || { echo "e2e: npm is not installed" >&2; exit 3; }
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$CHROMIUM" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "e2e: installing Debian's chromium"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; } >"$out/apt.log" 2>&1 || true
  CHROMIUM=$(command -v chromium || true)
fi
[ -n "$CHROMIUM" ] || { echo "e2e: no Chromium is here, and it cannot be installed (CHROMIUM names one)" >&2; exit 3; }
export CHROMIUM

(cd client/ts && npm ci --silent --no-audit --no-fund)
(cd e2e && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --silent --no-audit --no-fund && npm run --silent check)
[ -n "${ENDPOINTS:-}" ] || start_instance e2e "$out"
status=0
(cd e2e && npx playwright test ${E2E_SPEC:+"$E2E_SPEC"}) || status=$?
counts=$(node -e 'const {stats} = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")); console.log(stats.expected, stats.unexpected + stats.flaky, stats.skipped)' "$out/report.json")
read -r passed failed skipped <<<"$counts"
echo "specs: $passed passed, $failed failed, $skipped skipped"
[ "$passed" -gt 0 ] || { echo "e2e: no spec ran" >&2; status=1; }
[ -z "${E2E_COUNTS:-}" ] || echo "$counts" >>"$E2E_COUNTS"
exit "$status"
