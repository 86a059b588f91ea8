#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Every format version that was ever released can be read: with nothing but the repository and its paper key.

@test "golden repositories of all format versions restore" {
  top=$BATS_TEST_DIRNAME/../..
  for golden in "$top"/testdata/golden/*/; do
    work=$(mktemp -d)
    cp -r "$golden/repository" "$work/repository"
    hf() { "$HOLDFAST_BIN" --home "$work/home" --repo "$work/repository" "$@"; }
    hf -q recover --paper-key-file "$golden/paper-key.txt"
    [ "$(hf snapshots --json | grep -c '"message_type":"snapshot"')" -eq 2 ]
    hf -q check --read-data
    hf -q restore "latest:/$(cat "$golden/path")" --target "$work/out"
    diff "$golden/expected" <("$top/scripts/golden-listing" "$work/out")
    rm -rf "$work"
  done
}
