#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# init, recover, status, sealed homes, and folders that are something else.
load helpers
setup() { fresh; }

terminal() { python3 "$root/tests/cli/terminal.py" "$@"; }

@test "the paper key is shown once on a terminal, and confirmed" {
  export TERMINAL_ANSWERS=$'Type word (\\d+): $\t@word'
  run -0 terminal "$HOLDFAST_BIN" init
  has 'Type word'; has 'Made account'; has_not $'\033'
  [ -f home/keys/device ]
  words=$(grep -oP '\d+\. [a-z]+' <<<"$output" | sort -n -u | head -n 25)
  [ "$(wc -l <<<"$words")" = 25 ]
  cut -d' ' -f2 <<<"$words" >typed
  run -0 hf --home other recover --paper-key-file typed
}

@test "a paper key that is not confirmed: nothing is made" {
  export TERMINAL_ANSWERS=$'Type word (\\d+): $\t@wrong'
  run -1 terminal "$HOLDFAST_BIN" init
  has 'nothing was made'
  [ ! -e home/keys/device ]
  [ ! -e repo ]
  run -2 hf init </dev/null
  has '--paper-key-out'
  [ ! -e repo ]
  touch paper
  run -1 hf init --paper-key-out paper
  has 'there already'
  [ ! -e repo ]
}

@test "recover asks for the words on a terminal" {
  init
  grep -oP '\d+\. +\K[a-z]+' paper | tr '\n' ' ' >typed
  export TERMINAL_ANSWERS=$'words of the paper key.*\n\t@file '"$T/typed"
  TERMINAL_ANSWERS=$'several on a line\t@file '"$T/typed" run -0 terminal "$HOLDFAST_BIN" --home home2 recover
  has 'now device'
  run -2 hf --home home3 recover </dev/null
  has '--paper-key-file'
  [ ! -e home3 ]
  sed 's/1\. *[a-z]*/1. abandon/' paper >wrong
  run -1 hf --home home3 recover --paper-key-file wrong
  run -1 hf --home home3 recover --paper-key-file missing
  has missing
}

@test "recover --read-only restores with the paper key alone, and writes nothing" {
  init
  mkdir data; echo text >data/file
  hf --quiet backup data
  HOLDFAST_REPO=$T/second hf --quiet init
  HOLDFAST_REPO=$T/second hf --quiet backup data
  rm -rf home repo
  export HOLDFAST_REPO=$T/second HOLDFAST_HOME=$T/other
  run -1 hf recover --paper-key-file paper   # the account's first repository is lost
  has '--read-only'
  rm -rf other
  echo garbage >second/chain/0000000000000001
  before=$(cd second && find . -type f -exec sha256sum {} + | sort)
  run -0 hf recover --read-only --paper-key-file paper
  has 'nothing can be from here'; has 'chain/0000000000000001'
  run -4 hf status   # what is damaged is named
  has 'reads only'; has 'chain/0000000000000001'; has_not 'puts it back'
  run -0 hf restore latest --target out
  diff -r data "out$T/data"
  for write in 'backup data' 'forget --keep-last 1' 'prune' 'repair index' 'repair index --apply' 'tag --add x latest' 'init'; do
    # shellcheck disable=SC2086
    run hf $write
    echo "$write: $status $output"
    [ "$status" = 1 ] || [ "$write" = 'forget --keep-last 1' ] || [ "$write" = prune ] || [ "$write" = 'repair index' ]
  done
  run -1 hf backup data
  has 'only reads'; has 'without --read-only'
  [ "$before" = "$(cd second && find . -type f -exec sha256sum {} + | sort)" ]
}

@test "key rotate: every device goes on, and what was stored opens as before" {
  init
  second_home
  mkdir data; echo one >data/file
  hf --quiet backup data
  HOLDFAST_REPO=$T/repo2 hf --quiet init
  run -0 hf key rotate --dry-run
  has 'Would open key epoch 2'
  [ ! -e repo/secrets/00000002 ]
  run -0 hf key rotate
  has 'Opened key epoch 2'; has '2 devices'
  [ -e repo/secrets/00000002 ]
  run -0 hf status
  has 'key epoch 2'
  echo two >data/file
  run -0 hf backup data
  has '1 changed'
  # The other device comes after, finds the new epoch, and uses what the first one stored.
  run -0 hf --home home2 backup data
  run -0 hf --home home2 check --read-data
  has 'No damage.'
  run -0 hf --home home2 key rotate
  has 'epoch 3'
  echo three >data/file
  hf --quiet backup data
  # The second repository learns of both when it is next opened.
  HOLDFAST_REPO=$T/repo2 run -1 hf key rotate
  has '--first-repo'
  HOLDFAST_REPO=$T/repo2 run -0 hf key rotate --first-repo "$T/repo"
  [ -e repo2/secrets/00000004 ]
  HOLDFAST_REPO=$T/repo2 run -0 hf backup data
  # A new machine with the paper key reads all of it.
  run -0 hf --home home3 recover --paper-key-file paper
  run -0 hf --home home3 snapshots
  has '4 snapshots'
  run -0 hf --home home3 restore latest --target out
  [ "$(cat "out$T/data/file")" = three ]
  run -0 hf --home home3 check --read-data
  has 'No damage.'
  # One that was lost under the newest key comes back from the epoch before.
  rm repo/secrets/00000004
  run -0 hf --home home4 recover --paper-key-file paper
  run -0 hf --home home4 snapshots
  [ -e repo/secrets/00000004 ]
}

@test "a sealed home: all ways to give the passphrase" {
  printf 'correct horse\n' >pass
  printf 'wrong\n' >wrong
  hf --quiet init --paper-key-out paper --passphrase-file pass
  run -0 hf --passphrase-file pass status
  has 'Home         sealed'
  HOLDFAST_PASSPHRASE_FILE=pass run -0 hf snapshots
  HOLDFAST_PASSPHRASE_COMMAND='echo correct horse' run -0 hf snapshots
  HOLDFAST_PASSPHRASE_COMMAND='echo correct horse; exit 3' run -1 hf snapshots
  has 'exit code 3'
  run -1 hf --passphrase-file wrong snapshots
  has passphrase
  run -1 --separate-stderr hf --json --passphrase-file wrong snapshots
  [ "$(summary reason <<<"$output")" = denied ]
  run -1 hf --passphrase-file missing snapshots
  has 'missing'
  TERMINAL_ANSWERS=$'Passphrase[^:]*: $\tcorrect horse' run -0 terminal "$HOLDFAST_BIN" snapshots
  has '0 snapshots'; has_not 'correct horse'
  run -1 setsid -w "$HOLDFAST_BIN" snapshots </dev/null
  has 'HOLDFAST_PASSPHRASE_COMMAND'
}

@test "one account, two repositories; another account's repository is refused" {
  small_tree
  init
  hf --quiet backup src
  run -0 hf --repo second init
  has 'Made repository'; has_not 'Made account'
  hf --quiet --repo second backup src
  run -0 hf --repo second snapshots
  has '1 snapshots'
  run -0 hf status
  has 'is another one of this home'
  run -0 hf init
  has 'Already a repository of this account'
  hf --quiet --home stranger --repo theirs init --paper-key-out p
  run -1 hf --repo theirs snapshots
  has account
  run -1 hf --repo theirs init
  has account
  run -1 hf --home home3 --repo theirs recover --paper-key-file paper
  run -1 hf --home home3 init --paper-key-out p2
  has recover
}

@test "a foreign folder, a file, an unknown version, a lost key: what to do" {
  mkdir foreign
  echo precious >foreign/letter
  run -1 hf --repo foreign init --paper-key-out p
  has 'not empty'; has letter
  [ "$(ls foreign)" = letter ]
  [ ! -e home/keys/device ]
  run -1 hf --repo foreign/letter init --paper-key-out p
  run -1 hf --repo no/such/parent init --paper-key-out p
  has 'no/such/parent'
  rm -f p
  init
  run -1 hf --repo "$T/foreign" snapshots
  cp repo/repository kept
  chmod u+w repo/repository
  python3 - <<'END'
data = bytearray(open("repo/repository", "rb").read())
assert data[0] == 0x08 and data[1] == 1  # field 1, version
data[1] = 9
open("repo/repository", "wb").write(data)
END
  run -1 hf snapshots
  has 'version 9'; has 'update holdfast'
  rm repo/repository
  run -4 hf snapshots
  has 'damaged: repository: lost'; has 'repair index --apply'
  run -0 hf repair index --apply
  cmp kept repo/repository
  run -0 hf snapshots
  run -1 hf --home other --repo "$T/foreign" recover --paper-key-file paper
  has 'no repository of holdfast'
  rm home/keys/device
  run -1 hf snapshots
  has 'holdfast recover'
}

@test "init and recover seal the home by every way to give a passphrase, and say so" {
  printf 'correct horse\n' >pass
  sealed() { # HOME
    [ "$(HOLDFAST_PASSPHRASE_FILE=pass hf --json --home "$1" status 2>/dev/null | summary home_sealed)" = true ]
    run -1 setsid -w "$HOLDFAST_BIN" --home "$1" snapshots </dev/null
    has 'the home is sealed'
  }
  HOLDFAST_PASSPHRASE_FILE=pass run -0 hf init --paper-key-out paper
  has 'The home is sealed'
  sealed home
  HOLDFAST_PASSPHRASE_COMMAND='echo correct horse' run -0 --separate-stderr hf --json --home home2 recover --paper-key-file paper
  [ "$(summary home_sealed <<<"$output")" = true ]
  sealed home2
  HOLDFAST_PASSPHRASE_FILE=pass run -0 hf --home home3 recover --paper-key-file paper
  has 'The home is sealed'
  sealed home3
  HOLDFAST_PASSPHRASE_COMMAND='echo correct horse' run -0 --separate-stderr hf --json --home home4 --repo repo4 init --paper-key-out paper4
  [ "$(summary home_sealed <<<"$output")" = true ]
  HOLDFAST_REPO=$T/repo4 sealed home4
  # The option goes before the variables, a file before a command; and what cannot be read seals nothing.
  HOLDFAST_PASSPHRASE_FILE=missing HOLDFAST_PASSPHRASE_COMMAND=false hf --quiet --home home5 recover --paper-key-file paper --passphrase-file pass
  sealed home5
  HOLDFAST_PASSPHRASE_FILE=missing run -1 hf --home home6 --repo repo6 init --paper-key-out paper6
  has missing
  HOLDFAST_PASSPHRASE_COMMAND=false run -1 hf --home home6 recover --paper-key-file paper
  [ ! -e home6/keys/device ]; [ ! -e paper6 ]; [ ! -e repo6 ]
  # Without any of them there is no prompt, and a word about it.
  run -0 hf --home home7 --repo repo7 init --paper-key-out paper7
  has 'The home is not sealed'
  HOLDFAST_PASSPHRASE_FILE=pass run -0 hf --home home7 --repo repo8 init
  has 'The home is not sealed'
}

@test "--paper-key-out where there is no key to write: refused, nothing is made" {
  init
  run -2 hf --repo second init --paper-key-out late
  has 'has an account already'; has 'leave the option out'
  run -2 hf init --paper-key-out late
  [ ! -e second ]; [ ! -e late ]
  run -0 hf --repo second init
}

@test "an interrupted init goes on by the same command" {
  init
  # As if it had ended before the repository stood.
  rm -rf home/state/first-repository repo/repository home/config.toml
  run -2 hf init --paper-key-out another
  has 'was interrupted'
  [ ! -e another ]
  run -0 hf init --paper-key-out paper
  has 'Made repository'
  second_home
  run -0 hf --home home2 snapshots
}
