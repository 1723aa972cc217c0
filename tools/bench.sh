#!/usr/bin/env bash
# Measures what the filter costs in Envoy against what people would use instead, and its rooms natively; docs/performance.md says how.
# Usage: tools/bench.sh [BENCH]; without it, all. ROUNDS, SEED and RESULTS (a folder) are taken from the environment.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

need_cargo
case ${1:-} in
'' | rooms) cargo bench --profile native --locked --package bench --bench rooms ;;
esac
[ "${1:-}" != rooms ] || exit 0

tools/build.sh
ENVOY_BIN=$(tools/envoy.sh)
export ENVOY_BIN
cargo build --profile native --locked --package bench >&2
exec "${CARGO_TARGET_DIR:-target}/native/bench" measure "$@"
