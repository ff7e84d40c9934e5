#!/usr/bin/env bash
# Checks what the Makefile needs, installs what is missing, and says so.
#   deploy/setup.sh build    for `make run`: rustc, disk, compilers of C and C++, perl (OpenSSL's build asks for it), the wasm32-wasip2 target
#   deploy/setup.sh test     for `make test`: Python with a virtual environment, Node with `ws`, strace, openssl, redis-server, HAProxy,
#                            PostgreSQL, Kafka, Chromium, and what judges the files of deploy/: promtool, hadolint, dclint, Helm (where there is Go)
# A stamp file makes the second time of the latter quick; it lies beside the build and goes with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache="${HEDDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/heddle}"
target="${CARGO_TARGET_DIR:-$cache/target}"
rust_min=1.95
disk_needed_mib=6000
test_disk_needed_mib=5000
helm_version=v3.19.0

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$1"; shift; printf '  %s\n' "$@" >&2; exit 69; }

# Installs Debian packages: fail prints the command when that cannot be done from here.
debian() {
  local command=(apt-get install -y --no-install-recommends "$@")
  [ "$(id -u)" = 0 ] || command=(sudo -n "${command[@]}")
  say "installing Debian packages: $*"
  if command -v apt-get >/dev/null && DEBIAN_FRONTEND=noninteractive "${command[@]}" >"$cache/apt.log" 2>&1; then return; fi
  local refresh=(apt-get update)
  [ "$(id -u)" = 0 ] || refresh=(sudo -n "${refresh[@]}")
  if command -v apt-get >/dev/null && "${refresh[@]}" >>"$cache/apt.log" 2>&1 \
    && DEBIAN_FRONTEND=noninteractive "${command[@]}" >>"$cache/apt.log" 2>&1; then return; fi
  fail "cannot install $* from here ($cache/apt.log says why). Run, then try again:" "sudo apt-get update && sudo apt-get install -y $*"
}

rust() {
  command -v rustc >/dev/null && command -v cargo >/dev/null \
    || fail "there is no Rust. Run, then try again:" "curl --proto '=https' -sSf https://sh.rustup.rs | sh"
  local version
  version="$(rustc --version | awk '{ print $2 }')"
  [ "$(printf '%s\n%s\n' "$rust_min" "$version" | sort -V | head -n 1)" = "$rust_min" ] \
    || fail "rustc $version is older than $rust_min. Run, then try again:" "rustup update stable"
  local have
  have="$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2"
  if [ ! -d "$have" ]; then
    command -v rustup >/dev/null \
      || fail "the Rust target wasm32-wasip2 is missing, and there is no rustup to install it. Run, then try again:" \
        "curl --proto '=https' -sSf https://sh.rustup.rs | sh && rustup target add wasm32-wasip2"
    say "installing the Rust target wasm32-wasip2, for which policies are compiled"
    rustup target add wasm32-wasip2 >/dev/null 2>"$cache/rustup.log" \
      || fail "that failed ($cache/rustup.log says why). Run, then try again:" "rustup target add wasm32-wasip2"
  fi
}

disk() {
  [ -e "$target/debug/heddle" ] && return
  local free
  free="$(df --output=avail -m "$target" | tail -n 1 | tr -d ' ')"
  [ "$free" -ge "$disk_needed_mib" ] \
    || fail "$target has $free MiB free, the build needs $disk_needed_mib. Make room, or build elsewhere:" \
      "make run CARGO_TARGET_DIR=/a/larger/disk/heddle-target"
  say "first build, into $target: about $((1400 / $(nproc) / 60 + 2)) minutes on these $(nproc) cores, then seconds"
}

# The logs and databases that the tests write, most of them by 1,000 swaps under load.
room_for_tests() {
  local folder="${TMPDIR:-/tmp}" free
  free="$(df --output=avail -m "$folder" | tail -n 1 | tr -d ' ')"
  [ "$free" -ge "$test_disk_needed_mib" ] \
    || fail "$folder has $free MiB free, the tests need $test_disk_needed_mib. Make room, or test elsewhere:" \
      "make test TMPDIR=/a/larger/disk"
}

# Another checkout with the same target directory: Cargo tells files by their times, not by their content or folder, and would take what was built of
# the other one for this one's where that is newer. So all of this one's are newer.
checkout() {
  local stamp="$target/.setup-checkout"
  [ "$(cat "$stamp" 2>/dev/null)" = "$PWD" ] && return
  if [ -e "$stamp" ] || [ -e "$target/debug/heddle" ]; then
    find host plugins sdk tests wit -type f -not -path '*/node_modules/*' -print0 | xargs -0 touch
  fi
  printf '%s' "$PWD" >"$stamp"
}

# Runs a step once per state of the files that it depends on.
once() {
  local name="$1" files="$2" stamp="$target/.setup-$1"
  shift 2
  local state
  state="$(cat $files deploy/setup.sh | sha256sum | cut -c1-64) $(rustc --version 2>/dev/null || true)"
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then return; fi
  "$@"
  printf '%s' "$state" >"$stamp"
}

build_needs() {
  rust
  command -v cc >/dev/null || debian gcc libc6-dev
  # librdkafka is C, but does not configure itself without one.
  command -v c++ >/dev/null || debian g++
  # Not only the `perl-base` that every Debian has; git brings it.
  perl -MFindBin -MIPC::Cmd -e 1 2>/dev/null || debian perl
}

test_needs() {
  command -v python3 >/dev/null || debian python3 python3-venv
  python3 -c 'import ensurepip, venv' 2>/dev/null || debian python3-venv
  command -v node >/dev/null || debian nodejs
  command -v npm >/dev/null || debian npm
  command -v strace >/dev/null || debian strace
  # The tests start servers of their own, on free ports of loopback; those of the packages are not used.
  command -v redis-server >/dev/null || debian redis-server
  # HAProxy's path is that of an administrator.
  command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || debian haproxy
  command -v openssl >/dev/null || debian openssl
  command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || debian postgresql
  # The page at /try is a page only in a browser.
  command -v chromium >/dev/null || command -v google-chrome >/dev/null || debian chromium chromium-sandbox
  # For promtool. The server that its package brings is not used either.
  command -v promtool >/dev/null || (debian prometheus) || say "without promtool the tests of the alerts are skipped"
  say "Python packages of the tests go into $cache/venv"
  [ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
  "$cache/venv/bin/python" -m pip install --quiet --requirement tests/e2e/requirements.txt \
    || fail "pip cannot install the tests' packages. Run, then try again:" \
      "$cache/venv/bin/python -m pip install --requirement tests/e2e/requirements.txt"
}

kafka_needs() {
  command -v java >/dev/null || debian default-jre-headless
  command -v mvn >/dev/null || debian maven
  say "Apache Kafka for the tests goes into $cache/kafka"
  rm -rf "$cache/kafka"
  mvn --quiet --batch-mode --file tests/servers/kafka/pom.xml dependency:copy-dependencies \
      -DoutputDirectory="$cache/kafka" -DincludeScope=runtime >"$cache/maven.log" 2>&1 \
    || fail "Maven cannot fetch Kafka, see $cache/maven.log. Try again:" "deploy/setup.sh test"
}

node_needs() {
  [ -d tests/e2e/node/node_modules/ws ] && [ -d tests/e2e/node/node_modules/dclint ] && return
  say "Node's ws, and dclint, go into tests/e2e/node/node_modules"
  npm ci --prefix tests/e2e/node --no-audit --no-fund --silent \
    || fail "npm cannot install ws and dclint. Run, then try again:" "npm ci --prefix tests/e2e/node"
}

# The chart's own tool. Without it its tests are skipped, and counted.
helm_needs() {
  if command -v helm >/dev/null || [ -x "$cache/bin/helm" ]; then return; fi
  local again="GOBIN=$cache/bin go install helm.sh/helm/v3/cmd/helm@$helm_version"
  if ! command -v go >/dev/null; then
    say "there is no Helm, and no Go to build it: the tests of the chart are skipped. With Go 1.24 or newer: $again"
    return
  fi
  say "building Helm $helm_version into $cache/bin, some minutes once"
  GOBIN="$cache/bin" GOFLAGS=-trimpath go install "helm.sh/helm/v3/cmd/helm@$helm_version" >"$cache/helm.log" 2>&1 \
    || say "that failed ($cache/helm.log says why): the tests of the chart are skipped. To try again: $again"
}

mkdir -p "$cache" "$target" 2>/dev/null || fail "cannot make $target. Choose another place:" "make run CARGO_TARGET_DIR=DIR"
case "${1:-}" in
  build) build_needs; disk; checkout ;;
  test)
    room_for_tests
    once test tests/e2e/requirements.txt test_needs
    once kafka tests/servers/kafka/pom.xml kafka_needs
    node_needs
    helm_needs
    ;;
  *) fail "say what for:" "deploy/setup.sh build" "deploy/setup.sh test" ;;
esac
