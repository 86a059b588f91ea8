#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Options of backup.
load helpers
setup() { fresh; small_tree; init; }

listed() { hf ls -R latest | sed "s|^$T/src||" | grep -v '^/' | cat; hf ls -R "latest:$T/src" | sed "s|^$T/src/||" | sort | tr '\n' ' '; }

@test "excludes" {
  mkdir -p src/cache src/marked src/a/b/c
  printf 'Signature: 8a477f597d28d172789f06886806bc55\n' >src/cache/CACHEDIR.TAG
  touch src/cache/x src/marked/.nobackup src/marked/y src/A.TMP src/b.tmp src/a/b/c/keep src/a/b/c/drop.o
  printf '# comment\n\n*.o\n' >excludes
  snapshot src --exclude-caches --exclude-if-present .nobackup --iexclude '*.tmp' --exclude-file excludes \
    --exclude '/**/numbers' --exclude 'sub' --exclude '!nothing'
  run hf ls -R "latest:$T/src"
  has src/cache/CACHEDIR.TAG; has src/marked/.nobackup; has src/a/b/c/keep; has src/hello
  has_not cache/x; has_not marked/y; has_not A.TMP; has_not b.tmp; has_not drop.o; has_not numbers; has_not random
}

@test "files-from, files-from0, several paths" {
  printf '%s\n' "$T/src/hello" "$T/src/sub/deep" >list
  snapshot --files-from list
  run -0 hf ls -R latest
  has src/hello; has src/sub/deep/x; has_not random; has_not numbers
  touch "src/$(printf 'line\nend')"
  printf '%s\0' "src/$(printf 'line\nend')" src/hello | hf --quiet backup --files-from0 -
  run -0 hf ls -R latest
  has 'line\x0aend'; has src/hello; has_not deep
  run -1 hf backup --files-from missing
  has missing
}

@test "stdin" {
  seq 1 100000 >stream
  hf --quiet backup --stdin --stdin-name db/base.sql <stream
  run -0 hf ls -R latest
  has /db/base.sql
  hf dump latest:/db/base.sql | cmp - stream
  run -2 hf backup --stdin src
  run -2 hf backup --stdin --stdin-name ../up </dev/null
  has '--stdin-name'
}

@test "a dry run writes nothing" {
  before=$(cd repo && find . -type f | sort | sha256sum)
  run -0 --separate-stderr hf --json backup src --dry-run
  [ "$(summary files_new <<<"$output")" = 4 ]
  [ "$(summary snapshot <<<"$output")" = null ]
  [ "$(summary dry_run <<<"$output")" = true ]
  [ "$(cd repo && find . -type f | sort | sha256sum)" = "$before" ]
}

@test "what is unreadable is named: exit code 3, and the rest is stored" {
  printf '%s\n' "$T/src" "$T/missing-$(printf '\033')" >list
  run -3 hf backup --files-from list
  has 'unreadable: '"$T"'/missing-\x1b'; has '1 unreadable'; has 'Snapshot'
  run -3 --separate-stderr hf --json backup --files-from list
  [ "$(summary unreadable <<<"$output")" = 1 ]
  run -0 hf ls "latest:$T/src"
  has hello
  run -1 hf backup missing
  has 'missing'
  if [ "$(id -u)" != 0 ]; then
    chmod 000 src/numbers
    run -3 hf backup src
    has "unreadable: $T/src/numbers"
  fi
}

@test "sockets are skipped, with a word" {
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("src/socket")'
  run -0 hf backup src
  has 'Skipped: 1 sockets'
  run -0 hf ls "latest:$T/src"
  has_not socket
}

@test "compression, alone, uncompressed, one file system" {
  for level in fast balanced max; do hf --quiet backup src --compression $level --host $level; done
  hf --quiet backup src -x --no-compress '*.iso' --compress-alone hello --host x
  run -0 hf check --read-data
  run -2 hf backup src --compression best
}

@test "one home, two backups at once: the second says who is there, or waits" {
  mkfifo pipe
  "$HOLDFAST_BIN" --quiet backup --stdin <pipe &
  first=$!
  exec 7>pipe
  eventually compgen -G 'repo/heads/*/*.gen' >/dev/null
  run -1 hf backup src
  has "process $first"; has '--wait'
  run -1 --separate-stderr hf --json backup src
  [ "$(summary reason <<<"$output")" = conflict ]
  run -1 hf backup src --wait 1
  # Who only looks is not in the way.
  run -0 hf snapshots
  run -0 hf backup src --dry-run
  hf --quiet backup src --wait 1m 7>&- &
  second=$!
  sleep 0.3
  exec 7>&-
  wait "$first"
  wait "$second"
  run -0 hf snapshots
  has '2 snapshots'
  run -0 hf check --read-data
  run -2 hf backup src --wait long
}

@test "two homes of one account: both back up at the same time, both restore everything" {
  second_home
  cp -a src src2
  head -c 2000000 /dev/urandom >src2/own
  head -c 2000000 /dev/urandom >src/own
  for i in 1 2; do
    hf --quiet backup src & a=$!
    hf --quiet --home home2 backup src2 & b=$!
    wait "$a"; wait "$b"
    date >src/now; date >src2/now
  done
  for home in home home2; do
    ids=$(hf --home $home --json snapshots | jq -r 'select(.message_type == "snapshot") | .snapshot + " " + .paths[0]')
    [ "$(wc -l <<<"$ids")" = 4 ]
    run -0 hf --home $home check --read-data
    hf --quiet --home $home restore "$(grep "$T/src2$" <<<"$ids" | tail -n 1 | cut -d' ' -f1):$T/src2" --target $home-2
    hf --quiet --home $home restore "$(grep "$T/src$" <<<"$ids" | tail -n 1 | cut -d' ' -f1):$T/src" --target $home-1
    cmp src2/own $home-2/own
    cmp src/own $home-1/own
    diff -r --no-dereference -x now src2 $home-2
    diff -r --no-dereference -x now src $home-1
  done
}

@test "a file that changes all the time is named, and marked in the snapshot" {
  head -c 30000000 /dev/urandom >src/log
  keep_growing src/log
  run -0 --separate-stderr hf --json backup src
  stop_growing
  [ "$(summary torn <<<"$output")" = 1 ]
  [ "$(jq -r 'select(.message_type == "torn").path' <<<"$output")" = "$T/src/log" ]
  [[ $stderr == *"changed while it was read: $T/src/log"* ]]
  run -0 hf ls -l "latest:$T/src"
  [ "$(grep -c 'changed while it was read' <<<"$output")" = 1 ]
  has "$T/src/log (changed while it was read)"
  run -0 --separate-stderr hf --json ls "latest:$T/src"
  [ "$(jq -r 'select(.torn).path' <<<"$output")" = "$T/src/log" ]
  # It stands still now: read again, and whole.
  run -0 --separate-stderr hf --json backup src
  [ "$(summary torn <<<"$output")" = 0 ]
  run -0 --separate-stderr hf --json ls "latest:$T/src"
  has_not torn
}

@test "a path with .. behind a symlink is the place that the system goes to" {
  mkdir -p far/away near/x
  echo far >far/x
  echo near >near/x/y
  ln -s "$T/far/away" near/link
  hf --quiet backup near/link/../x
  run -0 hf ls latest
  has "$T/far/x"; has_not near
  hf dump "latest:$T/far/x" | cmp - far/x
  [ "$(hf --json snapshots --path near/link/../x | summary snapshots)" = 1 ]
  # What stands behind keeps its spelling, and so does a path without "..".
  hf --quiet backup near/../near/link
  run -0 hf ls latest
  has "$T/near/link"; has_not far
  run -1 hf backup near/none/../x
  has 'near/none/..'; has 'No such file'
  cd near/link
  hf --quiet backup .. --host up
  cd "$T"
  run -0 hf ls latest
  has "$T/far/away"
  hf --quiet --repo near/link/../r init
  [ -d far/r ]
  if [ "$(id -u)" = 0 ]; then
    ln -s "$T/far/away" near/theirs
    chown -h 12345 near/theirs
    run -1 hf backup near/theirs/../x
    has 'not permitted'
  fi
}

@test "files-from is as restic's: patterns, comments, blanks; files-from0 is not" {
  mkdir -p src/a src/b src/.hidden
  touch src/a/1.txt src/a/2.txt src/b/3.txt src/b/.4.txt src/.hidden/5.txt 'src/a/#6' 'src/a/[7]' 'src/* 8'
  printf '\xef\xbb\xbf# a comment\r\n\r\n  \t src/*/*.txt \t\r\n\t# another\nsrc/a/\\[7\\]\nsrc/hello' >list
  hf --quiet backup --files-from list
  run -0 hf ls -R latest
  for name in a/1.txt a/2.txt b/3.txt b/.4.txt .hidden/5.txt 'a/[7]' hello; do has "$T/src/$name"; done
  has_not '#6'; has_not numbers; has_not deep; has_not '* 8'
  printf 'src/hello\nsrc/[z]*\nsrc/gone\n' >list
  run -3 hf backup --files-from list
  has "unreadable: $T/src/[z]*"; has "unreadable: $T/src/gone"; has '2 unreadable'
  printf 'src/a/[\n' >list
  run -2 hf backup --files-from list
  has 'list of files list'; has '"/["'
  printf "$T/src/?dd\n" >list
  touch 'src/ödd'
  hf --quiet backup --files-from list
  run -0 hf ls -R latest
  has "$T/src/ödd"
  printf 'src/* 8\0src/a/#6\0' | hf --quiet backup --files-from0 -
  run -0 hf ls -R latest
  has "$T/src/* 8"; has "$T/src/a/#6"; has_not hello; has_not 1.txt
  run -2 bash -c 'printf "src\0" | "$0" backup --files-from -' "$HOLDFAST_BIN"
  has '--files-from0'
  run -2 bash -c 'printf "# nothing\n" | "$0" backup --files-from -' "$HOLDFAST_BIN"
  has 'no path'
}

@test "the name of standard input is a path; a closed one is an error" {
  echo data >stream
  for name in /db/x.sql db/x.sql //db//x.sql; do
    hf --quiet backup --stdin --stdin-name "$name" <stream
    run -0 --separate-stderr hf --json ls latest
    [ "$(jq -r 'select(.path).path' <<<"$output" | tr '\n' ' ')" = '/db /db/x.sql ' ]
    hf dump latest:/db/x.sql | cmp - stream
  done
  [ "$(hf --json snapshots --path /db/x.sql | summary snapshots)" = 3 ]
  for name in '' / db/ db/../x; do
    run -2 hf backup --stdin --stdin-name "$name" <stream
    has '--stdin-name'
  done
  run -1 bash -c '"$0" backup --stdin <&-' "$HOLDFAST_BIN"
  has 'standard input is closed'
  run -1 bash -c '"$0" backup --files-from - <&-' "$HOLDFAST_BIN"
  has 'standard input is closed'
  hf --quiet backup --stdin --stdin-name empty </dev/null
  run -0 hf snapshots
  has '4 snapshots'
}

@test "a path that is missing is named as it was given, and a repository in what is backed up is told" {
  run -3 hf backup src /no/such/path
  has 'unreadable: /no/such/path: '
  run -0 hf backup . --dry-run
  has 'the repository lies in'
  run -0 hf backup . --dry-run --exclude "$T/repo"
  has_not 'the repository lies in'
}

@test "patterns that come through a pipe are read once, and hold" {
  printf '*.log\n' >patterns
  touch src/a.log src/sub/b.log
  id=$(cat patterns | hf --json backup src --exclude-file - 2>/dev/null | summary snapshot)
  run -0 hf ls -R "$id"
  has 'numbers'; has_not '.log'
}
