#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The program over a real S3 gateway (HOLDFAST_TEST_S3, as scripts/ceph prints it) through tests/proxy.
load helpers

setup() {
  [ -n "${HOLDFAST_TEST_S3:-}" ] || skip 'no HOLDFAST_TEST_S3 (scripts/ceph)'
  gateway=$HOLDFAST_TEST_S3 access=$AWS_ACCESS_KEY_ID secret=$AWS_SECRET_ACCESS_KEY
  fresh
  bucket=hf-cli-$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' ')
  export AWS_ACCESS_KEY_ID=$access AWS_SECRET_ACCESS_KEY=$secret
  signed -X PUT "$gateway/$bucket"
  HOLDFAST_REPO=s3:$gateway/$bucket/machines
}
teardown() {
  [ -z "${line:-}" ] || kill "$line" || true
  [ -z "${HOLDFAST_REPO:-}" ] || clean
}

# curl's own signature.
signed() {
  curl -sS --fail-with-body --aws-sigv4 aws:amz:us-east-1:s3 --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$@"
}

# The repository behind a line: tests/proxy's options.
through() {
  python3 "$root/tests/proxy" "${gateway#http://}" "$@" >"$T/port" 2>"$T/counts" 3>&- &
  line=$!
  eventually test -s "$T/port"
  HOLDFAST_REPO=s3:${scheme:-http}://127.0.0.1:$(cat "$T/port")/$bucket/machines
}
end_line() { kill -TERM "$line"; wait "$line" || true; line=; }

@test "two homes back up, verify, forget, prune and restore in a bucket" {
  small_tree
  init
  hf --quiet backup src
  second_home
  run -0 hf --home home2 backup src
  has '4 new'
  rm src/sub/random
  hf --quiet backup src
  run -0 hf snapshots
  has '3 snapshots'
  run -0 hf forget --keep-last 1 --prune --max-unused 0
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf --home home2 restore "latest:$T/src" --target back
  same_trees src back
  run -0 hf status
  has "in s3:$gateway/$bucket/machines"
}

@test "over a line that refuses, cuts and loses answers nothing is lost" {
  small_tree
  for i in $(seq 40); do head -c 100000 /dev/urandom >"src/r$i"; done
  through --refuse 0.15 --cut 0.01 --lose 0.1 --slow 0.01 --seed 7
  init
  hf --quiet backup src
  echo more >src/hello
  hf --quiet backup src
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf restore "latest:$T/src" --target back
  same_trees src back
  end_line
  for kind in refused cut lost; do grep -q "'$kind': [1-9]" counts; done
  HOLDFAST_REPO=s3:$gateway/$bucket/machines
  run -0 hf snapshots
  has '2 snapshots'
}

@test "a certificate is trusted only when the user says so" {
  openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 2>/dev/null
  scheme=https through --cert cert.pem --key key.pem
  run -1 hf init --paper-key-out paper
  has 'certificate'
  [ ! -e paper ]
  export AWS_CA_BUNDLE=$T/cert.pem
  small_tree
  init
  hf --quiet backup src
  unset AWS_CA_BUNDLE
  printf 'repository = "%s"\n[s3]\nca_file = "%s"\n' "$HOLDFAST_REPO" "$T/cert.pem" >home/config.toml
  unset HOLDFAST_REPO
  run -0 hf snapshots
  has '1 snapshot'
  HOLDFAST_REPO=set
}

@test "mistakes say what to do, and make nothing" {
  HOLDFAST_REPO=s3:$gateway/$bucket-no-such
  run -1 hf init --paper-key-out paper
  has 'make the bucket first'
  HOLDFAST_REPO=s3:$gateway/$bucket
  AWS_SECRET_ACCESS_KEY=wrong run -1 hf init --paper-key-out paper
  has 'check AWS_ACCESS_KEY_ID'
  AWS_SECRET_ACCESS_KEY= run -1 hf init --paper-key-out paper
  has 'set AWS_ACCESS_KEY_ID'
  for bad in s3:host/bucket s3:https://host s3:https://host/Bad_Name; do
    run -2 hf --repo "$bad" init --paper-key-out paper
    has 'expected s3:https://HOST'
  done
  printf '[s3]\nzone = "x"\n' >"$T/bad.toml"
  [ ! -e paper ]
  signed -X PUT "$gateway/$bucket/letter" --data hello
  run -1 hf init --paper-key-out paper
  has "letter"
}

@test "a bucket that does not keep put-if-absent is refused" {
  signed -X PUT "$gateway/$bucket?versioning=" --data '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
  run hf init --paper-key-out paper
  if [ "$status" = 0 ]; then skip 'this gateway keeps it with versions too'; fi
  [ "$status" = 1 ]
  has 'this store cannot hold a repository'; has 'more than one succeeded'
  [ ! -e paper ]
}

# ---- a bucket with object lock, and somebody with its keys

locking_bucket() {
  bucket=$bucket-lock
  signed -X PUT "$gateway/$bucket" -H 'x-amz-bucket-object-lock-enabled: true'
  HOLDFAST_REPO=s3:$gateway/$bucket/machines
}

# Lines "Version|DeleteMarker key id" of all versions; a page is enough here.
versions() {
  signed "$gateway/$bucket?versions=" |
    grep -oP '<(Version|DeleteMarker)><Key>[^<]*</Key><VersionId>[^<]*' | sed 's/[<>]/ /g' | awk '{print $1, $3, $6}'
}

# Every object is written over, marked as deleted, written over again, and every version of it deleted as far as that goes.
destroy() {
  local kind key id deleted=0
  versions >before
  sort -u -k2,2 before | while read -r kind key id; do
    signed -X PUT "$gateway/$bucket/$key" --data garbage
    signed -X DELETE "$gateway/$bucket/$key"
    [ $((RANDOM % 2)) = 0 ] || signed -X PUT "$gateway/$bucket/$key" --data 'more garbage'
  done
  while read -r kind key id; do
    if signed -X DELETE "$gateway/$bucket/$key?versionId=$id" >answer 2>&1; then deleted=$((deleted + 1)); else grep -q AccessDenied answer; fi
  done <before
  echo "$deleted of $(wc -l <before) versions deleted"
}

@test "RNS-01 nobody deletes what the retention lock keeps: raw requests with the bucket's keys, then a fresh machine restores" {
  locking_bucket
  small_tree
  init
  hf --quiet backup src
  run -0 hf retention-lock show
  has 'Retention lock  none'; has 'enforces it'
  run -0 hf --json retention-lock set 1h
  [ "$(echo "$output" | summary seconds)" = 3600 ]
  [ "$(echo "$output" | summary locked)" -ge 7 ]
  cp -a src first
  echo more >src/hello
  hf --quiet backup src
  run -0 destroy
  has '0 of'
  run -0 hf --home home2 recover --paper-key-file paper
  run -0 hf --home home2 snapshots
  has '2 snapshots'
  run -0 hf --home home2 check --read-data
  has 'No damage.'
  run -0 hf --home home2 restore "latest:$T/src" --target back
  same_trees src back
  run -0 hf --home home2 restore "$(hf --home home2 --json snapshots | jq -r 'select(.number == 1).snapshot'):$T/src" --target back1
  same_trees first back1
  # Both machines go on.
  hf --quiet backup src
  hf --quiet --home home2 backup src
  run -0 hf check
  has 'No damage.'
}

@test "RNS-01 without a lock the same attack destroys everything" {
  locking_bucket
  small_tree
  init
  hf --quiet backup src
  run -0 destroy
  has_not '0 of'
  run ! hf check
}

@test "RNS-01 what is forgotten and condemned is held, can be restored, and goes when its time is over" {
  locking_bucket
  small_tree
  init
  run -0 hf retention-lock set 8s
  hf --quiet backup src
  first=$(hf --json snapshots | head -n 1 | jq -r .snapshot)
  rm src/sub/random
  hf --quiet backup src
  run -0 hf forget --prune "$first"
  run -0 hf snapshots
  has '1 snapshots'; has 'kept by the retention lock until'; has "${first:0:12}"
  run -0 hf restore "$first:$T/src" --target back
  [ -e back/sub/random ]
  run -0 hf retention-lock show
  has '8 seconds'; has '1 snapshots are kept still'
  sleep 9
  run -0 hf snapshots
  has_not 'kept by the retention lock'
  run -0 hf --json prune --max-unused 0
  [ "$(echo "$output" | summary packs_deleted)" = 0 ]
  [ "$(echo "$output" | summary held_until)" != null ]
  before=$(versions | wc -l)
  smaller() {
    hf --quiet prune --max-unused 0
    [ "$(versions | wc -l)" -lt "$before" ] && hf --json prune | tail -n 1 | jq -e '.locked == 0 and .held_until == null' >/dev/null
  }
  eventually smaller
  run -0 hf check --read-data
  has 'No damage.'
  run -0 hf restore "latest:$T/src" --target back2
  same_trees src back2
}

@test "a retention lock is refused where nothing enforces it, and made shorter by the paper key alone" {
  init
  run -1 hf retention-lock set 30d
  has 'cannot enforce a retention lock'; has 'was made without object lock'
  run -0 hf retention-lock show
  has 'cannot enforce one'
  hf --home home2 --repo "$T/folder" --quiet init --paper-key-out paper2
  run -1 hf --home home2 --repo "$T/folder" retention-lock set 30d
  has 'whoever can write can delete'
  locking_bucket
  hf --home home3 --quiet init --paper-key-out paper3
  for bad in '' soon 30dd 11y -1d; do
    run -2 hf --home home3 retention-lock set $bad
    has 'expected'
  done
  run -0 hf --home home3 retention-lock set 1h --dry-run
  has 'Would change the retention lock from none to 1 hours'
  run -0 hf --home home3 retention-lock set 1h
  # Whatever it is set to: nothing is put and nothing is locked.
  versions >before
  run -0 hf --home home3 retention-lock set 1h --dry-run
  run -0 hf --home home3 retention-lock set 2h --dry-run
  versions | cmp - before
  run -0 --separate-stderr hf --home home3 --json retention-lock set 1h --dry-run
  [ "$(echo "$output" | summary dry_run)" = true ]
  [ "$(echo "$output" | summary locked)" = null ]
  run -1 hf --home home3 retention-lock set 60s
  has '--paper-key-file'
  run -0 hf --home home3 retention-lock set 60s --paper-key-file paper3
  run -0 hf --home home3 --json retention-lock show
  [ "$(echo "$output" | summary seconds)" = 60 ]
  [ "$(echo "$output" | summary enforced)" = true ]
}

@test "a second repository of an account is locked by an entry in the first" {
  small_tree
  hf --quiet --repo "$T/folder" init --paper-key-out paper
  locking_bucket
  hf --quiet init
  run -1 hf retention-lock set 1h
  has '--first-repo'
  run -0 hf retention-lock set 1h --first-repo "$T/folder"
  hf --quiet backup src
  run -0 hf --json retention-lock show
  [ "$(echo "$output" | summary seconds)" = 3600 ]
  run -0 hf --repo "$T/folder" --json retention-lock show
  [ "$(echo "$output" | summary seconds)" = 0 ]
}

@test "an interrupted upload goes on from what was stored" {
  mkdir src
  for i in $(seq 60); do head -c 1000000 /dev/urandom >"src/$i"; done
  init
  export HOLDFAST_REPO
  "$program" --quiet --limit-upload 20M backup src 3>&- &
  job=$!
  packs_there() { [ "$(signed "$gateway/$bucket?list-type=2&prefix=machines%2Fpacks%2F" | grep -o '<Key>' | wc -l)" -ge 1 ]; }
  eventually packs_there
  kill -KILL "$job"
  wait "$job" || true
  run -0 hf --json backup src
  [ "$(echo "$output" | summary bytes_added)" -lt 55000000 ]
  run -0 hf restore "latest:$T/src" --target back
  same_trees src back
}
