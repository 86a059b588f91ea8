# SPDX-License-Identifier: Apache-2.0
# The real program in a folder of its own. HOLDFAST_BIN names it.
bats_require_minimum_version 1.5.0

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
: "${HOLDFAST_BIN:=$root/build/dev/bin/holdfast}"

# Of every test: a home, a repository that is not there yet, no terminal, nothing from the outside.
fresh() {
  unset "${!HOLDFAST_@}" "${!XDG_@}"
  HOLDFAST_BIN=$program
  # In memory where that is possible: the tests are not about the disk, and each put waits for it.
  T=$BATS_TEST_TMPDIR
  if [ -w /dev/shm ]; then T=$(mktemp -d -p /dev/shm holdfast-test.XXXXXX); fi
  export HOLDFAST_HOME=$T/home HOLDFAST_REPO=$T/repo TZ=UTC LC_ALL=C.UTF-8 TERM=dumb
  # A search for leaks at each end costs a third of the time: main.bats does it for all.
  export ASAN_OPTIONS=detect_leaks=${leaks:-0}
  cd "$T"
}
program=$HOLDFAST_BIN

teardown() { clean; }
clean() {
  cd /
  chmod -R u+w "$T"
  rm -rf "$T"
}

hf() { "$program" "$@"; }

init() { hf --quiet init --paper-key-out "$T/paper"; }

# A second home on the same repository.
second_home() { hf --quiet --home "$T/home2" recover --paper-key-file "$T/paper" --device-name second; }

# The full id that a backup of these arguments gives.
snapshot() { hf --json backup "$@" 2>/dev/null | summary snapshot; }

# A key of the last object of standard input.
summary() { tail -n 1 | jq -r ".$1"; }

small_tree() {
  mkdir -p "$T/src/sub/deep" "$T/src/empty"
  printf 'hello\n' >"$T/src/hello"
  seq 1 20000 >"$T/src/numbers"
  head -c 300000 /dev/urandom >"$T/src/sub/random"
  printf 'x' >"$T/src/sub/deep/x"
  ln -s ../hello "$T/src/sub/link"
}

same_trees() { python3 "$root/scripts/compare-trees" "$1" "$2"; }

# Fails and shows it when standard input has a control byte other than the line's end.
no_controls() {
  if LC_ALL=C grep -aqP '[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]'; then return 1; fi
}

has() { [[ $output == *"$1"* ]] || { echo "expected '$1' in: $output"; return 1; }; }
has_not() { [[ $output != *"$1"* ]] || { echo "expected no '$1' in: $output"; return 1; }; }

# A process that makes a file longer all the time: $writer. Returns when it is at it.
keep_growing() { # FILE
  local size
  size=$(stat -c %s "$1")
  python3 -c 'import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
while True: os.write(file, b"x")' "$1" 3>&- &
  writer=$!
  grown() { [ "$(stat -c %s "$1")" -gt "$2" ]; }
  eventually grown "$1" "$size"
}
stop_growing() { kill "$writer"; wait "$writer" || true; }

# Until a command succeeds, at most 20 seconds.
eventually() {
  local i
  for ((i = 0; i < 400; i++)); do "$@" && return 0; sleep 0.05; done
  echo "never: $*"
  return 1
}

# A backup that has begun and never ends: $writer. Arguments before `backup`.
begin_endless() {
  local before
  begun() { [ "$(find "$T/repo/heads" -name '*.open' | wc -l)" -gt "$1" ]; }
  before=$(find "$T/repo/heads" -name '*.open' | wc -l)
  mkfifo "$T/never"
  exec 9<>"$T/never"
  "$program" --quiet "$@" backup --stdin <"$T/never" 3>&- 9>&- &
  writer=$!
  eventually begun "$before"
}
# The same, killed: its session stays open.
cut_short() {
  begin_endless "$@"
  kill -9 "$writer"
  wait "$writer" || true
  exec 9>&-
  rm "$T/never"
}
