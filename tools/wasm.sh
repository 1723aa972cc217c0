#!/usr/bin/env bash
# Runs cargo for the filter's target, wasm32-wasip1, with whichever Rust can build for it:
#   1. the current toolchain, where the target is installed;
#   2. the same after `rustup target add`, where rustup can fetch it;
#   3. Debian's own Rust, which builds the standard library from its sources.
# Usage: tools/wasm.sh build|clippy [cargo's arguments…]
#        tools/wasm.sh version    prints which compiler that is
# WASM_RUST=rustup or WASM_RUST=debian insists on one of them.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

target=wasm32-wasip1
least=1.95 # rust-version in Cargo.toml

target_is_installed() {
  local libdir
  libdir=$(rustc --print target-libdir --target "$target" 2>/dev/null) || return 1
  compgen -G "$libdir/libstd-*.rlib" >/dev/null
}

# A failed download is remembered for a day, so that each build does not wait for the next failure.
rustup_adds_target() {
  command -v rustup >/dev/null || return 1
  local failed="$ROOT/target/rustup-has-no-$target"
  if [ "${WASM_RUST:-}" != rustup ] && [ -n "$(find "$failed" -mtime -1 2>/dev/null)" ]; then return 1; fi
  say "Asking rustup for the Rust target $target"
  if timeout 120 rustup target add "$target" >&2; then
    rm -f "$failed"
    target_is_installed
  else
    mkdir -p "$ROOT/target"
    touch "$failed"
    return 1
  fi
}

at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

debian_is_ready() {
  [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -e /usr/bin/rust-lld ] &&
    [ -e /usr/lib/wasm32-wasi/libc.a ] && [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ] &&
    at_least "$(/usr/bin/rustc --version | cut -d ' ' -f 2)" "$least"
}

install_debian() {
  install_packages "Debian's Rust for $target (rustup has none here)" \
    rustc-web cargo-web rust-web-src rust-web-llvm wasi-libc ca-certificates
  # Debian's rust-lld is a link to the linker of one LLVM version, which no package pulls in.
  [ -e /usr/bin/rust-lld ] || install_packages "the linker that rust-lld stands for" "$(basename "$(readlink /usr/bin/rust-lld)")"
  debian_is_ready || die "Debian's Rust is $(/usr/bin/rustc --version), and the filter needs $least or newer with its sources and wasi-libc"
}

choose() {
  case ${WASM_RUST:-} in
  '') ;;
  rustup)
    target_is_installed || rustup_adds_target || die "rustup cannot add $target"
    echo rustup
    return
    ;;
  debian)
    debian_is_ready || install_debian
    echo debian
    return
    ;;
  *) die "WASM_RUST is '$WASM_RUST', expected rustup or debian" ;;
  esac
  if command -v cargo >/dev/null && { target_is_installed || rustup_adds_target; }; then
    echo rustup
  else
    debian_is_ready || install_debian
    echo debian
  fi
}

verb=$1
shift
which=$(choose)
# A directory of its own: flags and another compiler would make native builds start again.
export CARGO_TARGET_DIR="$ROOT/target/wasm"
# A panic's message tells where it happened: without this machine's folder, which is longer than the rest.
flags=("--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src/=")
# EdDSA alone needs the crate sha2. Unrolled, its SHA-512 takes ten thousand bytes, a hundredth of the filter.
flags+=('--cfg=sha2_backend_soft="compact"')
# encoded FLAG… joins them as cargo wants them, so that a folder may have a space in its name.
encoded() {
  local IFS=$'\x1f'
  printf '%s' "$*"
}
case $which in
rustup)
  [ "$verb" != version ] || exec rustc --version
  CARGO_ENCODED_RUSTFLAGS=$(encoded "${flags[@]}")
  export CARGO_ENCODED_RUSTFLAGS
  exec cargo "$verb" --target "$target" "$@"
  ;;
debian)
  [ "$verb" != version ] || exec /usr/bin/rustc --version
  [ "$verb" != clippy ] || install_packages "Debian's clippy" rust-web-clippy
  # Debian's std is not prebuilt for this target, and building it is a nightly feature of cargo.
  export RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc PATH="/usr/bin:$PATH"
  CARGO_ENCODED_RUSTFLAGS=$(encoded "${flags[@]}" -Lnative=/usr/lib/wasm32-wasi -Clink-self-contained=no)
  export CARGO_ENCODED_RUSTFLAGS
  exec /usr/bin/cargo "$verb" --target "$target" -Zbuild-std=std,panic_abort "$@"
  ;;
esac
