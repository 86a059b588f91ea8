#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The manual page and the completions, made from the command line's own definition.
load helpers
setup() { fresh; }

@test "docs/man/holdfast.1 is up to date" {
  hf generate-man | diff "$root/docs/man/holdfast.1" - ||
    { echo "make it again: holdfast generate-man >docs/man/holdfast.1"; return 1; }
}

@test "the manual page reads without a complaint, and has everything" {
  command -v man >/dev/null || skip "no man"
  run -0 --separate-stderr env MANWIDTH=100 man --warnings -l "$root/docs/man/holdfast.1"
  [ -z "$stderr" ]
  for word in --passphrase-file HOLDFAST_PASSPHRASE_COMMAND config.toml CACHEDIR --read-data 130 latest:/home; do has "$word" || [ $word = CACHEDIR ]; done
}

completed() { # words of a command line, the last one to be completed
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  _holdfast
  echo "${COMPREPLY[*]}"
}

@test "bash" {
  source <(hf completion bash)
  [ "$(completed holdfast sn)" = snapshots ]
  [ "$(completed holdfast --repo /x backup --exclude-c)" = --exclude-caches ]
  [ "$(completed holdfast backup --compression m)" = max ]
  [ "$(completed holdfast restore latest --overwrite n)" = never ]
  [ "$(completed holdfast check --read)" = --read-data ]
  [ "$(completed holdfast completion z)" = zsh ]
  touch some-file
  [ "$(completed holdfast backup some)" = some-file ]
  [ "$(completed holdfast ls --pass)" = --passphrase-file ]
}

@test "zsh" {
  command -v zsh >/dev/null || skip "no zsh"
  hf completion zsh >_holdfast
  zsh -n _holdfast
}

@test "fish" {
  command -v fish >/dev/null || skip "no fish"
  hf completion fish >holdfast.fish
  fish --no-execute holdfast.fish
  [ "$(fish -c 'source holdfast.fish; complete -C "holdfast sn"' | cut -f1)" = snapshots ]
}
