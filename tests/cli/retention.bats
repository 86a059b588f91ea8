#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# forget and prune: what stays, what goes, and what is refused.
load helpers
setup() { fresh; }

packs() { find repo/packs -type f | wc -l; }

# Four snapshots; a file of 2 MB that only the second one has.
four() {
  small_tree
  init
  hf --quiet backup src
  head -c 2000000 /dev/urandom >src/big
  second=$(snapshot src --tag two)
  rm src/big
  echo new >src/hello
  hf --quiet backup src
  echo newer >src/hello
  hf --quiet backup src
}

@test "forget by a policy, prune, and everything that stays is there" {
  four
  run -0 hf forget --keep-last 1 --keep-tag two --dry-run
  has 'last 1'; has 'tag'; has 'Would forget 2 of 4'
  run -0 hf snapshots
  has '4 snapshots'
  run -0 hf forget --keep-last 1 --keep-tag two
  has 'Forgot 2 of 4'
  run -0 hf snapshots
  has '2 snapshots'; has "${second:0:12}"
  before=$(du -sb repo/packs | cut -f1)
  run -0 hf prune --dry-run
  [ "$(du -sb repo/packs | cut -f1)" = "$before" ]
  run -0 hf prune --max-unused 0
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf restore "$second:$T/src/big" --target back
  [ "$(stat -c %s back/big)" = 2000000 ]
  run -0 hf forget "$second"
  run -0 hf prune --max-unused 0
  has 'Removed'
  [ "$(du -sb repo/packs | cut -f1)" -lt $((before - 1900000)) ]
  run -0 hf restore latest --target back2
  same_trees src "back2$T/src"
  run -0 hf check --read-data
  has 'No damage.'; has_not 'belong to no snapshot'
  second_home
  run -0 hf --home home2 snapshots
  has '1 snapshots'
  run -0 hf --home home2 restore latest --target back3
  same_trees src "back3$T/src"
}

@test "what is refused, and why" {
  four
  newest=$(hf --json snapshots | jq -r 'select(.message_type == "snapshot").snapshot' | tail -n 1)
  run -2 hf forget
  has 'what to keep'
  run -2 hf forget --keep-last 1 "$newest"
  run -2 hf forget --keep-within 3w
  run -1 hf forget "$newest"
  has 'newest of its device'
  run -1 hf forget --keep-last 1 --max-drop 50
  has '3 of 4 snapshots would go'; has '--max-drop'
  run -0 hf snapshots
  has '4 snapshots'
  run -0 hf prune
  run -0 hf snapshots
  has '4 snapshots'
}

@test "another home's snapshots go through its own group, and its chunks stay" {
  four
  second_home
  hf --quiet --home home2 backup src
  run -0 hf forget --keep-last 1 --prune --max-unused 0
  run -0 hf snapshots
  has '2 snapshots'
  run -0 hf --home home2 restore latest --target back
  same_trees src "back$T/src"
  echo more >>src/hello
  run -0 hf --home home2 backup src
  run -0 hf --home home2 prune
  run -0 hf check --read-data
  has 'No damage.'
}

@test "a backup that was cut short does not hinder its own home's prune, and goes on after it" {
  small_tree
  init
  hf --quiet backup src
  head -c 60000000 /dev/urandom >src/big
  "$HOLDFAST_BIN" --quiet backup src &
  writer=$!
  eventually test "$(packs)" -ge 1
  opened() { [ -e "$(find repo/heads -name '*2.open')" ]; }
  eventually opened
  kill -9 $writer
  wait $writer || true
  run -0 hf prune
  run -0 hf backup src
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf restore latest --target back
  same_trees src "back$T/src"
}

@test "another device's backup that runs is waited for, or given up by the word of the user" {
  four
  second_home
  hf --quiet --home home2 backup src
  cut_short --home home2
  hf --quiet forget --keep-last 1
  run -0 hf prune --max-unused 0
  has 'Waiting for backup 2 of device'
  run -0 hf prune --max-unused 0 --give-up-after 0
  has_not 'Waiting'; has 'Removed'
  run -0 hf --home home2 backup src
  run -0 hf --home home2 restore latest --target back
  same_trees src "back$T/src"
  run -0 hf check --read-data
  has 'No damage.'
}

@test "a home does not prune while it backs up" {
  four
  begin_endless
  run -1 hf prune
  has 'another backup of this home is running'
  exec 9>&-
  wait "$writer"
  run -0 hf prune
}

@test "a damaged repository is not collected" {
  four
  hf --quiet forget --keep-last 1
  pack=$(find repo/packs -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
  before=$(packs)
  truncate -s -1 "$pack"
  run -4 hf prune
  has 'Nothing was removed'
  [ "$(packs)" = "$before" ]
}

@test "tag: add, remove, set; what has them changed, and prune leaves nothing behind" {
  four
  run -0 hf tag --add keep --add two "$second"
  has 'Changed the tags of 1 of 1'
  run -0 hf tag --add keep "$second"
  has 'Changed the tags of 0 of 1'
  run -0 hf snapshots --tag keep
  has '1 snapshots'
  run -0 hf tag --remove two "$second"
  run -0 hf snapshots --tag two
  has '0 snapshots'
  run -0 hf tag --set a --set b --dry-run
  has 'Would change the tags of 4 of 4'
  run -0 hf tag --set a --set b --host no-such
  has 'of 0 of 0'
  second_home
  run -0 hf --home home2 tag --set a "$second"
  run -0 hf forget --keep-tag a --dry-run
  has 'Would forget 2 of 4'
  run -2 hf tag latest
  run -2 hf tag --set a --add b latest
  run -0 hf check
  [ "$(find repo/heads -name '*.tags-*' | wc -l)" = 3 ]
  hf --quiet forget "$second"
  run -0 hf prune
  run -0 hf prune
  [ "$(find repo/heads -name '*.tags-*' | wc -l)" = 0 ]
  run -0 hf check
}

@test "tags with commas are several, as restic has it" {
  small_tree
  init
  first=$(snapshot src --tag a,b)
  second=$(snapshot src)
  hf --quiet tag --add c,d "$second"
  run -0 hf snapshots --tag c,d
  has '1 snapshots'
  hf --quiet backup src
  run -0 hf forget --keep-last 1 --keep-tag a,b --dry-run
  grep -q "^keep *${first:0:12}" <<<"$output"
  grep -q "^forget *${second:0:12}" <<<"$output"
}

@test "without paths in --group-by, lists of paths that grow are one group" {
  small_tree
  init
  for path in hello numbers sub; do
    [ -z "$paths" ] || sleep 0.01
    paths+=" src/$path"
    hf --quiet backup $paths
  done
  run -0 hf forget --keep-last 1 --dry-run
  has 'Would forget 0 of 3'
  run -0 hf forget --keep-last 1 --dry-run --group-by host
  has 'Would forget 2 of 3'
  run -0 hf forget --keep-last 1 --dry-run --group-by ''
  has 'Would forget 2 of 3'
  run -2 hf forget --keep-last 1 --group-by tags
  has "'tags'"
}

@test "what is unused is weighed as it is stored, not counted" {
  small_tree
  seq 1 3000000 >src/log   # compresses well, into many chunks
  head -c 3000000 /dev/urandom >src/noise
  init
  hf --quiet backup src
  rm src/noise
  hf --quiet backup src
  hf --quiet forget --keep-last 1
  run -0 hf prune --dry-run --max-unused 0
  freed=$(hf --json prune --dry-run --max-unused 0 2>/dev/null | summary bytes_freed)
  [ "$freed" -gt 2900000 ] && [ "$freed" -lt 3300000 ]
  has 'would be freed'
  before=$(du -sb repo/packs | cut -f1)
  run -0 hf prune --max-unused 0
  after=$(du -sb repo/packs | cut -f1)
  [ $((before - after)) -gt 2800000 ]
}
