#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The command line itself: global options, exit codes, homes, output.
load helpers
setup() { fresh; }

@test "global options stand before or after the command" {
  unset HOLDFAST_HOME HOLDFAST_REPO
  small_tree
  hf init --quiet --home h --repo r --paper-key-out paper
  hf --quiet --home h --repo r backup src
  run -0 hf --home h snapshots --repo r
  has '1 snapshots'
  # init wrote the repository into config.toml.
  run -0 --separate-stderr hf snapshots --json --home h
  [ "$(summary snapshots <<<"$output")" = 1 ]
}

@test "usage errors are exit code 2, in JSON too" {
  run -2 hf
  run -2 hf nonsense
  has "--help"
  run -2 hf backup --nonsense
  run -2 hf restore latest
  has '--target'
  init
  run -2 hf ls 'zzz'
  run -2 hf backup
  has 'no path'
  run -2 hf restore latest --target x --overwrite sometimes
  run -2 hf check --read-data=200
  run -2 hf completion powershell
  run -2 --separate-stderr hf --json restore latest
  [ "$(summary message_type <<<"$output")" = error ]
  [ "$(summary reason <<<"$output")" = usage ]
  [ "$(summary code <<<"$output")" = 2 ]
  [[ $stderr == *--target* ]]
  unset HOLDFAST_REPO
  run -2 hf --home other snapshots
  has 'no repository was named'
}

@test "help and version" {
  run -0 hf --help
  for command in init recover status backup snapshots ls find diff stats restore dump check completion; do
    has "  $command "
    hf $command --help | grep -q '^Examples:'
  done
  hf restore --help | tr -s ' \n' ' ' | grep -q 'changed (size or time differ; the default)'
  hf backup --help | tr -s ' \n' ' ' | grep -q 'balanced (the default)'
  run -0 hf --version
  [[ $output =~ ^holdfast\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "XDG folders; no HOME is an error that says what to do" {
  unset HOLDFAST_HOME
  small_tree
  HOME=$T/user hf --quiet init --paper-key-out paper
  [ -f user/.config/holdfast/config.toml ]
  [ -f user/.local/share/holdfast/keys/device ]
  [ -d user/.local/state/holdfast ]
  [ -f user/.cache/holdfast/CACHEDIR.TAG ]
  head -c 43 user/.cache/holdfast/CACHEDIR.TAG | grep -qx 'Signature: 8a477f597d28d172789f06886806bc55'
  rm -r repo
  HOME=$T/user XDG_CONFIG_HOME=$T/c XDG_DATA_HOME=$T/d XDG_STATE_HOME=$T/s XDG_CACHE_HOME=$T/k hf --quiet init --paper-key-out paper2
  [ -f c/holdfast/config.toml ]
  [ -f d/holdfast/keys/device ]
  [ "$(stat -c %a d/holdfast/keys)$(stat -c %a d/holdfast/keys/device)" = 700600 ]
  run -2 env -u HOME "$HOLDFAST_BIN" snapshots
  has HOLDFAST_HOME
}

@test "config.toml" {
  init
  unset HOLDFAST_REPO
  run -0 hf snapshots
  printf 'repositroy = "/x"\n' >home/config.toml
  run -1 hf snapshots
  has repositroy; has config.toml
  printf 'repository = \n' >home/config.toml
  run -1 hf snapshots
  has 'config.toml:1'
  printf 'repository = "%s"\n' "$T/elsewhere" >home/config.toml
  run -1 hf snapshots
  has elsewhere
  HOLDFAST_REPO=$T/repo run -0 hf snapshots
}

@test "a home or a repository that is not there: says what to do, makes nothing" {
  run -1 hf snapshots
  has 'no such folder'; has 'holdfast init'
  mkdir repo
  run -1 hf snapshots
  has 'no home'; has 'holdfast recover'
  [ ! -e home ]
  init
  mkdir empty
  run -1 hf --repo empty snapshots
  has 'no repository of holdfast'
  run -1 --separate-stderr hf --json --repo empty snapshots
  [ "$(summary reason <<<"$output")" = not_found ]
  run -2 hf --repo sftp://host/folder snapshots
  has 'folders, and buckets as s3:https://HOST/BUCKET'
}

@test "snapshot names: prefix, ambiguity, none" {
  small_tree
  init
  run -1 hf ls latest
  has 'no snapshots'
  id=$(snapshot src)
  run -0 hf ls "${id:0:4}"
  run -0 hf ls "$id"
  run -1 hf ls "0000${id:4:12}"
  has "holdfast snapshots"
  seen=${id:0:1}
  for i in $(seq 17); do
    printf '%s' "$i" >src/hello
    next=$(snapshot src)
    [[ $seen != *${next:0:1}* ]] || break
    seen+=${next:0:1}
  done
  run -2 hf ls "${next:0:1}"
  has 'more than one'
}

@test "a full stdout is an error, a reader that leaves is none" {
  small_tree
  init
  snapshot src
  run -1 bash -c '"$0" ls -R latest >/dev/full' "$HOLDFAST_BIN"
  has 'No space left'
  run -1 bash -c '"$0" --json snapshots >/dev/full' "$HOLDFAST_BIN"
  run -1 bash -c '"$0" dump "latest:$1" >/dev/full' "$HOLDFAST_BIN" "$T/src/sub/random"
  # As if SIGPIPE had ended it: half a file is no success.
  run -141 bash -c 'set -o pipefail; "$0" dump "latest:$1" | head -c 1 >/dev/null' "$HOLDFAST_BIN" "$T/src/sub/random"
  [ -z "$output" ]
  for i in $(seq 3000); do : >"src/file$i"; done
  snapshot src
  run -0 bash -c 'set -o pipefail; "$0" ls -R latest | head -n 1' "$HOLDFAST_BIN"
  run -0 bash -c '"$0" snapshots <&- >&- 2>&-' "$HOLDFAST_BIN"
}

@test "no progress and no escape sequences but on a terminal, and none with TERM=dumb" {
  small_tree
  head -c 20000000 /dev/urandom >src/big
  init
  TERM=xterm NO_COLOR=1 hf backup src >out 2>err
  no_controls <err
  [ ! -s out ]
  export TERM=xterm
  run -0 python3 "$root/tests/cli/terminal.py" "$HOLDFAST_BIN" backup src
  rm -rf repo/lists
  TERM=dumb run -0 python3 "$root/tests/cli/terminal.py" "$HOLDFAST_BIN" --help
  mkfifo pipe
  (sleep 0.7; printf 'x') >pipe &
  run -0 python3 "$root/tests/cli/terminal.py" bash -c '"$0" --home new --repo new-repo --quiet init --paper-key-out p &&
    "$0" --home new --repo new-repo backup --stdin <pipe' "$HOLDFAST_BIN"
  has $'\r\033[K'; has 'files, '
  (sleep 0.7; printf 'y') >pipe &
  TERM=dumb run -0 python3 "$root/tests/cli/terminal.py" bash -c '"$0" --home new --repo new-repo backup --stdin <pipe' "$HOLDFAST_BIN"
  has_not $'\033'
}

@test "a word that is no command is named" {
  for line in mount 'help' '--quiet unlock' '--repo repo version'; do
    run -2 hf $line
    has "there is no command '${line##* }'"
  done
}

@test "what is said comes in the order in which it was said" {
  small_tree
  init
  snapshot src
  echo more >>src/hello
  snapshot src
  hf forget --keep-last 1 >log 2>&1
  tail -n 1 log | grep -q 'Forgot 1 of 2'
}

@test "latest of a host or of a path; hosts of several devices are told apart" {
  small_tree
  init
  first=$(snapshot src --host one)
  second_home
  second=$(hf --json --home home2 backup src/sub --host one 2>/dev/null | summary snapshot)
  hf --quiet backup src --host other
  run -0 hf ls latest:$T/src/sub --path src/sub
  run -1 hf ls latest --path nowhere
  has 'no snapshot of path'
  run -0 hf dump latest:$T/src/hello --host other
  [ "$output" = hello ]
  run -1 hf restore latest --host nobody --target back
  has 'no snapshot of host nobody'
  run -0 hf snapshots
  [ "$(grep -c 'one (' <<<"$output")" = 2 ]
}
