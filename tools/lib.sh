# shellcheck shell=bash
# What every script here shares: where the repository is, how to speak, how to get a Debian package.
# Words for people go to stderr, so that a script's stdout is only its answer.

# The scripts that source this file use the folder.
# shellcheck disable=SC2034
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

# Colours only where a person looks.
if ! [ -t 2 ]; then
  say() { printf '==> %s\n' "$*" >&2; }
  die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
  }
fi

# install_packages WHY PACKAGE… installs those Debian packages that are missing, and says why.
install_packages() {
  local why=$1 package missing=()
  shift
  for package in "$@"; do
    # shellcheck disable=SC2016 # dpkg-query expands this, not the shell
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "$why is missing. Please install what your system calls: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
      die "$why needs Debian packages, and this is not root. As root, run: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  say "Installing $why (Debian packages: ${missing[*]})"
  local log
  log=$(mktemp)
  if ! {
    "${as_root[@]}" apt-get update &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: ${missing[*]}"
  fi
  rm -f "$log"
}

# A secret for this run alone, of 64 letters.
random_secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# need COMMAND PACKAGE WHY installs the package where the command is missing.
need() {
  command -v "$1" >/dev/null || install_packages "$3" "$2"
}

# A Rust for native code: what is on the PATH, else Debian's.
need_cargo() {
  command -v cargo >/dev/null || install_packages "Debian's Rust (no cargo is on the PATH)" cargo-web rustc-web ca-certificates
  need cc gcc "a C compiler (SQLite is built from source)"
  [ -e /usr/include/stdlib.h ] || ! command -v apt-get >/dev/null || install_packages "the C library's headers" libc6-dev
}
