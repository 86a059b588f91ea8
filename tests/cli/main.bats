#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The main job, from init to a restore in another home.
load helpers
setup() { leaks=1; fresh; }

@test "init, backup, list, verify, recover, restore: everything comes back" {
  small_tree
  ln src/hello src/hard-link
  truncate -s 10M src/sparse
  mkfifo src/fifo
  chmod 2750 src/sub
  touch -h -d '1969-07-20 20:17:40.123456789 UTC' src/sub/link src/hello
  init
  [ "$(stat -c %a paper)" = 600 ]
  id=$(snapshot src --tag daily --host laptop)
  [[ $id =~ ^[0-9a-f]{64}$ ]]
  run -0 hf snapshots
  has "${id:0:8}"; has laptop; has daily; has "$T/src"; has '+00:00'
  run -0 hf ls "latest:$T/src"
  has "$T/src/hello"; has "$T/src/sub"; has_not random
  run -0 hf ls "latest:$T/src/hello"
  has "$T/src/hello"
  run -0 hf ls -l -R "${id:0:10}:$T/src"
  has random; has 'lrwxrwxrwx'; has '-> ../hello'; has '10485760'
  run -0 hf check --read-data
  has 'No damage.'
  second_home
  privileged=(); [ "$(id -u)" != 0 ] || privileged=(--privileged)
  run -0 hf --home home2 restore latest --target back "${privileged[@]}"
  same_trees src "back$T/src"
  run -0 hf --home home2 restore "$id:$T/src/sub" --target part "${privileged[@]}" --verify
  same_trees src/sub part
  run -0 hf status
  has 'second'; has '(this one)'; has 'not sealed'; [[ $output == *'just now'* || $output == *' ago'* ]]
}

@test "a second backup reads only what changed, and diff names it" {
  small_tree
  init
  first=$(snapshot src)
  rm src/sub/deep/x
  printf 'more' >>src/hello
  printf 'new' >src/new
  chmod 600 src/numbers
  run -0 --separate-stderr hf --json backup src
  [ "$(summary files_new <<<"$output")" = 1 ]
  [ "$(summary files_unmodified <<<"$output")" = 1 ]
  [ "$(summary parent <<<"$output")" = "$first" ]
  [ "$(summary bytes_added <<<"$output")" -lt 200000 ]
  second=$(summary snapshot <<<"$output")
  run -0 hf diff "$first" latest
  has "+  $T/src/new"; has "-  $T/src/sub/deep/x"; has "M  $T/src/hello"; has "m  $T/src/numbers"; has_not random
  run -0 hf diff "$second" "$second"
  has '0 added'
}

@test "find looks through all snapshots" {
  small_tree
  init
  first=$(snapshot src)
  mv src/hello src/hello.old
  second=$(snapshot src)
  run -0 --separate-stderr hf --json find 'hello*'
  [ "$(jq -r 'select(.message_type == "match") | .snapshot + " " + .path' <<<"$output" | sort)" = "$(printf '%s\n' \
    "$first $T/src/hello" "$second $T/src/hello.old" | sort)" ]
  run -0 --separate-stderr hf find -i "$T/*/RANDOM" -s "${first:0:12}"
  has "$T/src/sub/random"
  run -0 --separate-stderr hf find nothing
  [ -z "$output" ]
}

@test "restore: include, exclude, overwrite, dry run, resumed" {
  small_tree
  init
  snapshot src
  run -0 hf restore "latest:$T/src" --target dry --dry-run
  has 'Would restore: 4 files'
  [ ! -e dry ]
  run -0 hf restore "latest:$T/src" --target some --include 'hello' --include deep --exclude x
  [ "$(cd some && find . -type f)" = ./hello ]
  run -0 hf restore "latest:$T/src" --target all
  printf 'other' >all/hello
  rm all/numbers
  run -0 hf restore "latest:$T/src" --target all --overwrite never
  [ "$(cat all/hello)" = other ]
  cmp src/numbers all/numbers
  run -0 hf restore "latest:$T/src" --target all
  has '3 kept'
  cmp src/hello all/hello
  run -0 hf restore "latest:$T/src" --target all --overwrite always
  has ' 0 kept'
  run -1 hf restore "latest:/not/there" --target all
  has '/not/there'
}

@test "dump writes a file, and a folder as tar" {
  small_tree
  printf 'strange' >"src/$(printf 'na\nme\377')"
  init
  snapshot src
  hf dump "latest:$T/src/sub/random" | cmp - src/sub/random
  mkdir untarred
  hf dump "latest:$T/src" | tar -x -C untarred
  found=$(find untarred -type d -name src)
  diff -r --no-dereference src "${found:-untarred}"
  run -1 hf dump "latest:$T/none"
  run -2 hf dump latest
}

@test "stats" {
  small_tree
  init
  snapshot src
  run -0 --separate-stderr hf --json stats
  [ "$(summary snapshots <<<"$output")" = 1 ]
  [ "$(summary bytes_files <<<"$output")" -gt 400000 ]
  [ "$(summary bytes_stored <<<"$output")" -gt 300000 ]
  run -0 hf stats
  has Reduction
}

@test "find of very many: in order, in every snapshot, and in little memory" {
  mkdir many
  python3 - <<'END'
import os
for i in range(30000):
    os.symlink("/", "many/%05d%s" % (i, "n" * 200))
END
  init
  first=$(snapshot many --compression fast)
  rm many/29999*
  : >many/other
  second=$(snapshot many --compression fast)
  # The largest memory of a command, in KiB.
  cat >used <<'END'
import resource, subprocess, sys
subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], "w"), check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
END
  export ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=1
  few=$(python3 used few "$HOLDFAST_BIN" --json find other)
  all=$(python3 used all "$HOLDFAST_BIN" --json find '*n')
  [ "$(summary matches <few)" = 1 ]
  [ "$(summary matches <all)" = 59999 ]
  echo "$few KiB, $all KiB"
  [ $((all - few)) -lt 25000 ]
  jq -r 'select(.path) | .snapshot + .path' all >got
  tail="$(printf 'n%.0s' {1..200})"
  for i in {00000..29999}; do echo "$first$T/many/$i$tail"; done >wanted
  head -n 29999 wanted | sed "s|^$first|$second|" >>wanted
  cmp wanted got
}

@test "times far away" {
  mkdir src
  cat >times <<'END'
import os, sys
for name, seconds in [("near", 1), ("old", -10**9), ("far", 15032385534), ("older", -60000000000), ("farthest", 10**18)]:
    open("src/" + name, "w").close()
    os.utime("src/" + name, ns=(0, seconds * 10**9 + 7))
    if int(os.stat("src/" + name).st_mtime_ns) != seconds * 10**9 + 7: print("cannot")
END
  [ -z "$(python3 times)" ] || skip "the file system has no such times"
  init
  snapshot src
  run -0 hf ls -l "latest:$T/src"
  has "2446-05-10 22:38:54 +00:00 $T/src/far"; has "0068-09-03 13:20:00 +00:00 $T/src/older"; has "@1000000000000000000 $T/src/farthest"
  run -0 --separate-stderr hf --json ls "latest:$T/src"
  [ "$(jq -r 'select(.path).mtime' <<<"$output" | sort | tr '\n' ' ')" = "0068-09-03T13:20:00.000000007Z \
1938-04-24T22:13:20.000000007Z 1970-01-01T00:00:01.000000007Z 2446-05-10T22:38:54.000000007Z @1000000000000000000 " ]
}

@test "restore makes the folders above its target, and says when nothing matched" {
  small_tree
  init
  snapshot src
  run -0 hf restore "latest:$T/src/sub" --target some/new/place/
  cmp src/sub/random some/new/place/random
  printf x >file
  run -1 hf restore latest --target file/below/it
  has "file/below"
  run -0 hf restore "latest:$T/src" --target none --include /hello
  has 'nothing matched'; has 'whole path in the snapshot'
  run -0 hf restore "latest:$T/src" --target some --include hello
  has_not 'nothing matched'
  run -0 hf restore "latest:$T/src" --target some --include hello
  has '1 kept'; has_not 'nothing matched'
  run -0 hf restore "latest:$T/src/empty" --target empty
  has_not 'nothing matched'
  run -0 hf restore latest --target nowhere/deep --dry-run --include /none
  has 'nothing matched'; has 'not looked at'
  [ ! -e nowhere ]
}

@test "what was left out is named by its path in the snapshot" {
  mkdir -p src/sub
  printf x >src/sub/program
  chmod 4755 src/sub/program
  init
  snapshot src
  for place in "$T/src" "$T/src/sub" "$T/src/sub/program"; do
    run -0 --separate-stderr hf --json restore "latest:$place" --target "out-${place##*/}"
    [ "$(summary 'left_out[] | select(.kind == "setuid or setgid bit").path' <<<"$output")" = "$T/src/sub/program" ]
    [[ $stderr == *"the first $T/src/sub/program ("* ]]
  done
}

@test "what a killed upload left a day ago is removed by the next backup, and nothing younger" {
  small_tree
  hf init --paper-key-out key.txt
  hf backup src
  echo rest >"$HOLDFAST_REPO/tmp/0123456789abcdef0123456789abcdef"
  echo running >"$HOLDFAST_REPO/tmp/fedcba9876543210fedcba9876543210"
  touch -d '2 days ago' "$HOLDFAST_REPO/tmp/0123456789abcdef0123456789abcdef"
  hf backup src
  ls "$HOLDFAST_REPO/tmp"
  [ ! -e "$HOLDFAST_REPO/tmp/fedcba9876543210fedcba9876543210" ] && return 1
  hf check
}
