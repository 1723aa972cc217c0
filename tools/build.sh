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

# Each worker compiles the filter and keeps the code. What it weighs, and where there is something to save: docs/performance.md.
most_bytes=900000

# optimize FROM TO lets binaryen take out what the linker leaves. It refuses what it can't read, and checks what it writes.
optimize() {
  if [ "$2" -nt "$1" ] && [ "$2" -nt tools/build.sh ]; then return; fi
  need wasm-opt binaryen "binaryen (its wasm-opt makes the filter an eighth smaller)"
  say "Optimising the filter"
  # What Rust takes for granted of every WebAssembly machine today. The module no longer says so itself.
  wasm-opt --enable-bulk-memory --enable-mutable-globals --enable-nontrapping-float-to-int --enable-sign-ext \
    -O3 "$1" -o "$2.part" || die "wasm-opt ($(wasm-opt --version)) can't optimise the filter"
  mv -f "$2.part" "$2"
}

mkdir -p dist

tools/wasm.sh build --release --lib --locked >&2
optimize target/wasm/wasm32-wasip1/release/envoy_tenancy.wasm target/wasm/tenancy.wasm
bytes=$(stat -c %s target/wasm/tenancy.wasm)
[ "$bytes" -le "$most_bytes" ] ||
  die "the filter has $bytes bytes, and may have $most_bytes: see Size in docs/performance.md"
deliver target/wasm/tenancy.wasm dist/tenancy.wasm

need_cargo
cargo build --profile native --locked --package tenancyd --package upstream >&2
deliver target/native/tenancyd dist/tenancyd
deliver target/native/upstream dist/upstream
