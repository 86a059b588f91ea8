#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Signals, kill -9, full and read-only disks.
load helpers
setup() { fresh; small_tree; init; }
teardown() {
  for place in disk target-disk; do mountpoint -q "$T/$place" && umount "$T/$place"; done
  clean
}

begun() { compgen -G 'repo/heads/*/*.gen' >/dev/null; }

# A backup that waits for more input: $backup is its process, descriptor 7 feeds it.
start_waiting() {
  mkfifo pipe
  "$HOLDFAST_BIN" "$@" backup --stdin <pipe >out 2>err &
  backup=$!
  exec 7>pipe
  eventually begun
}

@test "SIGINT and SIGTERM end in order: 130, and it says so" {
  for signal in INT TERM; do
    rm -f pipe repo/heads/*/*.gen
    start_waiting --json
    # A job of a shell without job control ignores SIGINT: python gives it back.
    kill -"$signal" "$backup"
    code=0; wait "$backup" || code=$?
    exec 7>&-
    cat err
    [ "$code" = 130 ]
    [ "$(summary code <out)" = 130 ]
    grep -q 'Interrupted' err
  done
  run -0 hf backup src
  run -0 hf check --read-data
}

@test "kill -9 in the middle: the next run goes on from what was stored" {
  head -c 60000000 /dev/urandom >big
  mkfifo pipe
  "$HOLDFAST_BIN" --quiet backup --stdin <pipe &
  backup=$!
  exec 7>pipe
  head -c 45000000 big >&7
  packs() { [ "$(find repo/packs -type f | wc -l)" -ge 1 ]; }
  eventually packs
  sleep 0.3
  kill -9 "$backup"
  exec 7>&-
  wait "$backup" || true
  run -0 hf snapshots
  has '0 snapshots'
  run -0 --separate-stderr bash -c '"$0" --json backup --stdin <big' "$HOLDFAST_BIN"
  [ "$(summary bytes_total <<<"$output")" = 60000000 ]
  [ "$(summary bytes_added <<<"$output")" -lt 50000000 ]
  hf dump latest:/stdin | cmp - big
  run -0 hf check --read-data
  has '1 snapshots'
}

# It handles SIGTERM: bit 14, beside SIGINT and SIGHUP.
handles() { grep -q '^SigCgt:.*[4-7c-f]..[37bf]$' "/proc/$backup/status"; }

@test "a second signal ends at once" {
  printf 'p\n' >pass
  hf --quiet --home sealed --repo r2 init --paper-key-out p2 --passphrase-file pass
  # It cannot end in order: it waits for that command.
  HOLDFAST_PASSPHRASE_COMMAND='sleep 30; echo p' "$HOLDFAST_BIN" --home sealed --repo r2 snapshots 2>err 3>&- &
  backup=$!
  eventually handles
  eventually pgrep -P "$backup" >/dev/null
  kill -TERM "$backup"
  sleep 0.3
  kill -0 "$backup"
  kill -TERM "$backup"
  SECONDS=0
  code=0; wait "$backup" || code=$?
  [ "$code" = 130 ]
  [ "$SECONDS" -lt 20 ]
}

@test "a full disk: code 1, says so, and the next run with room succeeds" {
  [ "$(id -u)" = 0 ] || skip "needs root"
  mkdir disk
  mount -t tmpfs -o size=3m tmpfs disk || skip "cannot mount"
  hf --quiet --repo disk/r init
  head -c 6000000 /dev/urandom >src/big
  run -1 hf --repo disk/r backup src
  has 'No space left'; has 'free some space'
  run -1 --separate-stderr hf --json --repo disk/r backup src
  [ "$(summary reason <<<"$output")" = full ]
  mount -o remount,size=30m disk
  run -0 hf --repo disk/r backup src
  run -0 hf --repo disk/r check --read-data
  mkdir target-disk
  mount -t tmpfs -o size=2m tmpfs target-disk
  code=0; hf --repo disk/r restore latest --target target-disk/t 2>err || code=$?
  umount target-disk
  [ "$code" = 1 ]
  grep -q 'No space left' err
}

@test "a read-only repository is read, and a backup into it says why not" {
  hf --quiet backup src
  if [ "$(id -u)" = 0 ]; then
    mkdir disk
    mount --bind repo disk && mount -o remount,ro,bind disk || skip "cannot mount"
    place=$T/disk
  else
    chmod -R a-w repo
    place=$T/repo
  fi
  run -0 hf --repo "$place" snapshots
  run -0 hf --repo "$place" check --read-data
  run -0 hf --repo "$place" restore latest --target back
  run -1 hf --repo "$place" backup src
  [[ $output == *'Read-only file system'* || $output == *'Permission denied'* ]]
  run -1 hf --repo /proc/new init
}
