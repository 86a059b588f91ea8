#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# repair, recover-snapshots, home passphrase.
load helpers
setup() { fresh; }

two() {
  small_tree
  init
  first=$(snapshot src)
  head -c 3000000 /dev/urandom >src/big
  second=$(snapshot src)
}
# The pack of data that only the second snapshot needs.
big_pack() { find repo/packs -type f -size +2M; }

@test "a lost pack: what is lost is named, the rest comes back, and a backup heals" {
  two
  rm "$(big_pack)"
  run -4 hf check
  run -4 hf repair packs
  has 'the store does not have it'; has "'holdfast repair packs --apply' does it"
  run -4 hf prune
  run -0 hf repair packs --apply
  run -0 hf repair snapshots --apply
  has "LOST: snapshot ${second:0:12}: $T/src/big"; has 'the original stays'
  run -0 hf snapshots
  has 'repaired'; has '3 snapshots'
  run -0 hf restore "latest:$T/src" --target back
  rm src/big
  same_trees src back
  # What is on the machine still heals the old snapshot too.
  head -c 1 /dev/null >src/big
  run -0 hf forget "$second"
  run -0 hf prune
  run -0 hf check --read-data
  has 'No damage.'
}

@test "a damaged pack is saved as far as it can be read, and one that was lost comes back by a backup" {
  two
  cp src/big kept
  pack=$(big_pack)
  printf 'X' | dd of="$pack" bs=1 seek=1000000 conv=notrunc status=none
  run -4 hf check --read-data
  # What is not known to be lost is not given up.
  run -1 hf repair snapshots
  has "Run 'holdfast repair packs --apply' first"
  run -0 hf repair packs --apply
  has 'saved from damaged packs'
  # Nothing of the file changed, so that only a backup that looks at its pieces finds what is missing.
  run -0 hf backup src
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf restore "$second:$T/src" --target back
  cmp back/big kept
}

@test "a lost head and lost lists are an alarm, until they are repaired" {
  two
  head=$(find repo/heads -type f -name '*01')
  rm "$head" repo/lists/*
  run -10 hf snapshots
  run -4 hf repair index
  has 'lost or damaged'
  run -0 hf repair index --apply
  run -0 hf recover-snapshots --apply
  has 'stands for that tree'
  run -0 hf snapshots
  has 'recovered'; has '2 snapshots'
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf restore "latest:$T/src" --target back
  rm src/big
  same_trees src back
}

@test "keys that the store lost are put back from the home" {
  two
  rm repo/secrets/*
  printf 'X' | dd of="$(find repo/chain -type f)" bs=1 seek=100 conv=notrunc status=none
  run -4 hf snapshots
  has "This home's copy is used"
  run -4 hf check
  run ! hf --home other recover --paper-key-file paper
  run -0 hf repair index --apply
  run -0 hf check
  second_home
  run -0 hf --home home2 restore "latest:$T/src" --target back
  same_trees src back
}

@test "home passphrase: set, another one, remove; the wrong one changes nothing" {
  small_tree
  init
  hf --quiet backup src
  echo one >one; echo two >two
  run -0 hf home passphrase set --new-passphrase-file one
  has 'The home is sealed'
  run -1 hf snapshots </dev/null
  run -0 hf --passphrase-file one snapshots
  run -1 hf --passphrase-file two home passphrase set --new-passphrase-file two
  run -0 hf --passphrase-file one home passphrase set --new-passphrase-file two
  run -1 hf --passphrase-file one snapshots
  run -0 hf --passphrase-file two snapshots
  run -1 hf --passphrase-file one home passphrase remove
  run -0 hf --passphrase-file two --json home passphrase remove
  run -0 hf snapshots
  run -2 hf home passphrase forget
}
