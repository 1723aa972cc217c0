#!/usr/bin/env bash
# Builds what is shipped: dist/tenancy.wasm, and for this machine dist/tenancyd and dist/upstream.
# Cargo decides what is out of date; nothing in dist/ is ever half written.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

# deliver FROM TO puts a finished file in place in one step, and leaves an equal one alone.
deliver() {
  if cmp -s "$1" "$2"; then return; fi
  cp "$1" "$2.part"
  mv -f "$2.part" "$2"
  say "$2 is new"
}

mkdir -p dist

tools/wasm.sh build --release --lib --locked >&2
deliver target/wasm/wasm32-wasip1/release/envoy_tenancy.wasm dist/tenancy.wasm

need_cargo
cargo build --profile native --locked --package tenancyd --package upstream >&2
deliver target/native/tenancyd dist/tenancyd
deliver target/native/upstream dist/upstream
