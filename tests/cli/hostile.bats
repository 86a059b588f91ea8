#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Hostile names, and what leaks into the store.
load helpers
setup() { fresh; }

@test "RST_11: hostile names reach no terminal" {
  mkdir src
  python3 - <<'END'
import os
names = [b"\x1b]0;owned\x07", b"\x1b[2J\x1b[31mred", b"line\nbreak", b"carriage\rreturn", b"tab\there", b"del\x7f", b"\xff\xfe",
         "c1\u009b31m".encode(), "bidi\u202etxt.exe".encode(), b"back\\slash", b"%s%n", b"--json", b" ", b"'\"$(id)`id`"]
for n in names:
    os.mkdir(b"src/d" + n)
    open(b"src/d" + n + b"/f" + n, "wb").write(b"x" + n)
    os.symlink(b"to" + n, b"src/l" + n)
END
  e=$(printf '\033[31mE\a')
  init
  hf --quiet --home home2 recover --paper-key-file paper --device-name "dev$e"
  echo "$T/none$e" >list
  find src -maxdepth 1 -mindepth 1 -print0 >list0
  all() {
    hf backup --files-from0 list0 --files-from list --tag "tag$e" --host "host$e" || true
    hf backup "missing$e" || true
    hf --home home2 backup src "src/$(printf 'd\033]0;owned\a')" --tag "t$e"
    rm -r "src/$(printf 'dline\nbreak')"
    printf 'y' >>"src/$(printf 'd\033]0;owned\a/f\033]0;owned\a')"
    hf backup src
    hf snapshots
    hf status
    hf ls -l -R latest
    hf find '*'
    hf find "*$e*"
    hf diff "$(hf --json --home home2 snapshots 2>/dev/null | head -n 2 | tail -n 1 | jq -r .snapshot)" latest
    hf restore latest --target back
    hf restore latest --target back --dry-run
    hf restore "latest:/none$e" --target "b$e" || true
    hf dump "latest:/none$e" || true
    hf ls "snap$e" || true
    hf --repo "repo$e" snapshots || true
    hf "command$e" || true
    hf check --read-data
    pack=$(find repo/packs -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
    chmod u+w "$pack"
    printf 'broken' | dd of="$pack" bs=1 seek=120 conv=notrunc status=none
    hf check --read-data || true
    hf restore latest --target back2 || true
    rm "$pack"
    hf check || true
  }
  all >out 2>err
  no_controls <out
  no_controls <err
  grep -q 'owned' out
  grep -q 'touched' err
  for command in 'ls latest' 'find *' snapshots status; do hf --json $command >json 2>/dev/null || true; no_controls <json; done
}

@test "MET_02: nothing of names, contents and settings is in the store, plain or hashed" {
  mkdir -p src/canary-directory-alpha
  printf 'canary-content-bravo' >src/canary-directory-alpha/canary-name-charlie
  for i in $(seq 40); do printf 'canary-content-bravo' >"src/canary-many-$i"; done
  ln -s canary-target-delta src/link
  setfattr -n user.canary-attribute-echo -v canary-value-foxtrot src/canary-directory-alpha 2>/dev/null || true
  hf --quiet init --paper-key-out paper --device-name canary-device-golf
  hf --quiet backup src --host canary-host-hotel --tag canary-tag-india --exclude '*canary-exclude-juliett*' --no-compress '*'
  echo 'canary-stream-kilo' | hf --quiet backup --stdin --stdin-name canary-stdin-lima --host canary-host-hotel
  user=$(id -un)
  python3 - "$T/repo" "$T/src" <<'END'
import base64, hashlib, os, subprocess, sys
repo, src = sys.argv[1:]
words = ["canary", "canary-directory-alpha", "canary-content-bravo", "canary-name-charlie", "canary-target-delta", "user.canary-attribute-echo",
         "canary-value-foxtrot", "canary-device-golf", "canary-host-hotel", "canary-tag-india", "*canary-exclude-juliett*",
         "canary-stream-kilo\n", "canary-stdin-lima", src, src + "/canary-directory-alpha/canary-name-charlie", src.lstrip("/")]
stored = b""
for folder, _, files in os.walk(repo):
    for name in files:
        path = os.path.join(folder, name)
        stored += os.path.relpath(path, repo).encode() + b"\0" + open(path, "rb").read() + b"\0"
chain = b"".join(open(os.path.join(repo, "chain", n), "rb").read() for n in os.listdir(os.path.join(repo, "chain")))
def forms(word):
    raw = word.encode()
    digests = [getattr(hashlib, h)(raw).digest() for h in ("sha256", "sha512", "sha1", "md5", "blake2b", "blake2s", "sha3_256")]
    digests.append(hashlib.blake2b(raw, digest_size=32).digest())
    yield "plain", raw
    yield "utf-16", word.encode("utf-16-le")
    yield "hex", raw.hex().encode()
    yield "base64", base64.b64encode(raw).rstrip(b"=")[:-1]
    for d in digests:
        yield "digest", d
        yield "digest in hex", d.hex().encode()
        yield "digest in base64", base64.b64encode(d).rstrip(b"=")
found = [(w, kind) for w in words for kind, form in forms(w) if form in stored]
# The chain is signed, not sealed: device names stand in it, and docs say so.
found = [f for f in found if f[0] not in ("canary-device-golf", "canary")] + \
        [f for f in found if f[0] == "canary" and b"canary" in stored.replace(chain, b"").replace(b"canary-device-golf", b"")]
assert not found, found
# The search itself works: the length of a chunk's own name is there.
assert b"HFPACK01" in stored
END
}
