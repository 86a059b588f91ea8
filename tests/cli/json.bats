#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Every object of every command is as testdata/json-schema says, and docs/json.md knows every key.
load helpers
setup() { fresh; }

valid() { # COMMAND KINDS: what was printed is to be validated, and to have objects of these kinds
  local file
  file=$T/outputs/$((++count)).$1
  printf '%s\n' "$output" >"$file"
  echo "$2" >"$file.kinds"
}

@test "all commands" {
  mkdir outputs
  count=100
  small_tree
  touch "src/$(printf 'odd\377')"
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("src/socket")'
  run -0 --separate-stderr hf --json init --paper-key-out paper; valid init summary-init
  run -0 --separate-stderr hf --json --repo r2 init; valid init summary-init
  run -0 --separate-stderr hf --json --home home2 recover --paper-key-file paper; valid recover summary-recover
  run -0 --separate-stderr hf --json status; valid status summary-status
  run -0 --separate-stderr hf --json backup src --dry-run; valid backup summary-backup
  run -0 --separate-stderr hf --json backup src --tag t; valid backup summary-backup
  printf '%s\n' "$T/src" "$T/missing" >list
  run -3 --separate-stderr hf --json backup --files-from list; valid backup 'unreadable summary-backup'
  touch src/other
  chmod 600 src/hello
  run -0 --separate-stderr hf --json backup src --tag t; valid backup summary-backup
  run -0 --separate-stderr bash -c '(sleep 3; echo x) | "$0" --json backup --stdin' "$HOLDFAST_BIN"; valid backup 'status summary-backup'
  run -0 --separate-stderr hf --json snapshots; valid snapshots 'snapshot summary-snapshots'
  first=$(jq -r 'select(.message_type == "snapshot").snapshot' <<<"$output" | head -n 1)
  third=$(jq -r 'select(.message_type == "snapshot").snapshot' <<<"$output" | sed -n 3p)
  run -0 --separate-stderr hf --json ls -R "$first"; valid ls 'entry summary-ls'
  jq -r 'select(.path_hex).path_hex' <<<"$output" | grep -q 'ff$'
  run -0 --separate-stderr hf --json find '*'; valid find 'match summary-find'
  run -0 --separate-stderr hf --json diff "$first" "$third"; valid diff 'difference summary-diff'
  run -0 --separate-stderr hf --json stats; valid stats summary-stats
  run -0 --separate-stderr hf --json restore "$first" --target back; valid restore summary-restore
  run -0 --separate-stderr hf --json restore "$first" --target back --dry-run; valid restore summary-restore
  run -0 --separate-stderr hf --json check --read-data; valid check summary-check
  head -c 30000000 /dev/zero >src/log
  keep_growing src/log
  run -0 --separate-stderr hf --json backup src/log; valid backup 'torn summary-backup'
  stop_growing
  python3 -c 'import os; os.utime("src/hello", (0, 10**18))'
  run -0 --separate-stderr hf --json backup src; valid backup summary-backup
  run -0 --separate-stderr hf --json find log; valid find 'match summary-find'
  [ "$(jq -r 'select(.torn).path' <<<"$output")" = "$T/src/log" ]
  run -0 --separate-stderr hf --json ls "latest:$T/src"; valid ls 'entry summary-ls'
  run -1 --separate-stderr hf --json ls 00000000; valid ls error
  run -2 --separate-stderr hf --json ls; valid ls error
  run -0 --separate-stderr hf --json tag --add x "$first"; valid tag 'tagged summary-tag'
  echo word >word
  run -0 --separate-stderr hf --json home passphrase set --new-passphrase-file word; valid home summary-home
  run -0 --separate-stderr hf --json --passphrase-file word home passphrase remove; valid home summary-home
  run -0 --separate-stderr hf --json key rotate --dry-run; valid key summary-key
  run -0 --separate-stderr hf --json key rotate; valid key summary-key
  run -0 --separate-stderr hf --json forget --keep-last 1 --dry-run; valid forget 'decision summary-forget'
  run -0 --separate-stderr hf --json prune --dry-run; valid prune summary-prune
  run -0 --separate-stderr hf --json prune; valid prune summary-prune
  cut_short --home home2
  hf --quiet forget "$third"
  run -0 --separate-stderr hf --json prune --max-unused 0; valid prune 'waiting summary-prune'
  pack=$(find repo/packs -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
  rm "$pack"
  run -4 --separate-stderr hf --json check; valid check 'damage touched summary-check'
  run -0 --separate-stderr hf --json retention-lock show; valid retention-lock summary-retention-lock
  run -0 --separate-stderr hf --json recover-snapshots; valid recover-snapshots summary-recover-snapshots
  run -4 --separate-stderr hf --json repair packs; valid repair 'damage summary-repair'
  run -0 --separate-stderr hf --json repair packs --apply; valid repair 'damage summary-repair'
  run -4 --separate-stderr hf --json repair snapshots; valid repair 'damage lost repaired summary-repair'
  run -4 --separate-stderr hf --json restore "$first" --target back2; valid restore 'incomplete summary-restore'
  find outputs -type f ! -name '*.kinds' -print0 | sort -z |
    xargs -0 python3 "$root/tests/cli/validate-json.py" "$root/testdata/json-schema"
}

@test "docs/json.md names every key of every schema" {
  for schema in "$root"/testdata/json-schema/*.json; do
    jq -r '.properties | keys[]' "$schema" | while read -r key; do
      grep -q "\`$key\`" "$root/docs/json.md" || { echo "$schema: $key"; exit 1; }
    done
  done
}
