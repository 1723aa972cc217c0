#!/usr/bin/env bash
# Counts the instructions of requests in Envoy under valgrind, and holds them against bench/instructions.json; docs/performance.md says how.
# Usage: tools/instructions.sh; with ACCEPT=1 in the environment it writes the file instead.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

accept=()
case ${ACCEPT:-} in
'' | 0) ;;
1) accept=(--accept) ;;
*) die "ACCEPT is '$ACCEPT', expected 1" ;;
esac

need valgrind valgrind "valgrind (it counts instructions)"
tools/build.sh
ENVOY_BIN=$(tools/envoy.sh)
export ENVOY_BIN
cargo build --profile native --locked --package bench >&2
# A wait that nobody foresaw ends, too.
exec timeout --kill-after=10 600 "${CARGO_TARGET_DIR:-target}/native/bench" instructions --compiler "$(tools/wasm.sh version)" "${accept[@]}"
