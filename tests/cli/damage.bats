#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Damage is named with the files and snapshots that it touches: exit code 4.
load helpers
setup() { fresh; small_tree; init; }

flip() { # FILE OFFSET
  python3 - "$1" "$2" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 4]))
END
}

packs() { find repo/packs -type f -printf '%s %p\n' | sort -n | cut -d' ' -f2; }

@test "a flipped byte of a file's content: check names it, restore leaves only it out" {
  id=$(snapshot src/sub --tag one)
  first=$(packs | tail -n 1)
  id2=$(snapshot src)
  chmod u+w "$first"
  flip "$first" 150000
  run -0 hf check
  run -4 hf check --read-data
  has 'damaged: '; has "touched: snapshot ${id:0:8}"; has "$T/src/sub/random"; has 'DAMAGE'; has_not hello
  run -4 --separate-stderr hf --json check --read-data
  jq -r 'select(.message_type == "touched") | .snapshot + " " + .path' <<<"$output" >touched
  grep -q "^$id $T/src/sub/random$" touched
  grep -q "^$id2 $T/src/sub/random$" touched
  run -4 hf restore "latest:$T/src" --target back
  has "not restored: $T/src/sub/random"; has 'INCOMPLETE'
  cmp src/hello back/hello
  cmp src/numbers back/numbers
  [ ! -e back/sub/random ]
  run -4 hf dump "latest:$T/src/sub/random"
  hf dump "latest:$T/src/hello" | cmp - src/hello
}

@test "a pack that is gone, a head that is damaged" {
  id=$(snapshot src)
  echo more >>src/hello
  id2=$(snapshot src)
  head=$(find repo/heads -type f -name '*2' | head -n 1)
  cp "$head" "$T/kept"
  chmod u+w "$head"
  flip "$head" 300
  run -4 hf snapshots
  has 'damaged: '; has "${id:0:8}"; has_not "${id2:0:8}"
  run -4 hf check
  run -0 hf ls "$id"
  cp "$T/kept" "$head"
  rm "$(packs | tail -n 1)"
  run -4 hf check
  has random
}

@test "a repository that is rolled back is an alarm: exit code 10" {
  snapshot src
  cp -a repo old
  echo more >>src/hello
  snapshot src
  rm -r repo
  mv old repo
  for command in snapshots 'backup src' check 'restore latest --target back'; do
    run -10 hf $command
    has 'rolled back'
  done
  run -10 --separate-stderr hf --json snapshots
  [ "$(summary reason <<<"$output")" = alarm ]
  [ ! -e back ]
  # The keeper says that it is an older copy, and why: then it is gone on from.
  run -10 hf repair index --apply
  has '--accept-rollback'
  run -4 hf repair index
  has 'rolled back'
  run -10 hf snapshots
  run -0 hf repair index --apply --accept-rollback
  has 'rolled back'
  run -0 hf snapshots
  has '1 snapshots'
  run -0 hf backup src
  run -0 hf check --read-data
  has 'No damage.'
}

@test "ENG-09 a home that was brought back from a copy is found out by whatever writes" {
  first=$(snapshot src)
  snapshot src
  cp -a home copy
  echo more >>src/hello
  snapshot src
  find repo -type f | sort >before
  for command in 'tag --add x latest' "forget $first" 'forget --keep-last 1 --max-drop 100' prune 'repair index --apply' \
    'repair packs --apply' 'backup src'; do
    run -10 hf --home copy $command
    has 'copied or rolled back'
  done
  find repo -type f | sort | diff before -
}
