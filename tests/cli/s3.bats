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
