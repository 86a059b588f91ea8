#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes patterns.tsv: what restic itself keeps of a small tree under each list of patterns.

Run as root on a machine with Debian 12's restic (0.14); it makes and removes /hfp and a temporary
repository. Columns: patterns, separated by spaces ("i " in front: without case); the topmost paths
below /hfp that `restic backup --dry-run` leaves out, separated by spaces; or INVALID.
"""
import os, shutil, subprocess, sys, tempfile

TREE = """a a/b a/b/c a/b/c/d.txt a/b/x.o a/foo a/foo/bar a/foo/bar/z foo foo/keep.me foo/bar foo/bar/y
bar bar/foo bar/x/y/foo/q Foo Foo/X.TXT x.o y.o yy.o node_modules node_modules/m.js w/node_modules/n.js
.hid .hid/.in s[1] st*r q?m !bang #hash b\\k [x] a-b ab -d ä äö/É.txt long/1/2/3/4/5/end long/1/end""".split()
DIRS = {p.rsplit("/", i)[0] for p in TREE for i in range(1, p.count("/") + 1)} | {
    "a", "foo", "bar", "Foo", "node_modules", ".hid"}
LISTS = r"""
foo|bar|Foo|*.o|?.o|??.o|x.o|*|**|/|!|.|..|***|*/foo|foo/*|foo/bar|foo/|foo//|foo/bar/|/foo|/hfp/foo
/hfp/foo/|//hfp//foo|/hfp/*|/hfp/*/*|/hfp/*/foo|/hfp/**/foo|/hfp/**/foo/**|**/foo|**/foo/**|foo/**
/hfp/foo/**|/**/foo|/**|/**/**|**/**|a/**/d.txt|a/**/c|a/**/b|a/**/x.o|hfp/**/y|/hfp/**/y|/hfp/a/**/z
hfp/**/5/end|long/**/end|long/*/end|long/**/3/**/end|long/1/**/2/3|1/**/3/**/5|**/1/**/5/**|/long/**
a/b|b/c|a/b/c/d.txt|b/x.o|a/*/c|*/b/*|*/*/*|*/*/*/*|/*/*/*|a/../foo|./foo|foo/.|foo/./bar|../foo|/../hfp/foo
[a-c]|[abf]oo|[^a]oo|[^f]oo|[F-f]oo|[a-z].o|[x-z].o|[a-c]*|[!f]oo|s[1]|s\[1\]|s[[]1[]]|s[[]1]|s[\[]1\]|st\*r
st*r|st[*]r|st?r|q?m|q\?m|q[?]m|\!bang|!bang|[!]bang|?bang|#hash|\#hash|[#]hash|b\\k|b[\\]k|b?k|b*k|[\[]x]
[[]x[]]|\[x\]|a-b|a[-]b|a[\-]b|a[+--]b|a[a-]b|ab|a\b|\a\b|a?b|a*b|-d|.*|.hid|.hid/.*|*/.in|.hid/*|.?in|.i?
?|??|???|ä|?ö|*ö|äö|[ä]|[à-ü]|[^a]|*/?.txt|*.txt|*.TXT|É.txt|é.txt|*[.]txt|*\.txt|*.[ot]*|*o*|*oo|f*o|f*o*|f*o/b*
i foo|i FOO|i *.txt|i É.txt|i /HFP/FOO|i [A-B]|i x.txt|i ÄÖ|i foo/x.txt|i foo/*
foo !foo|foo !bar|* !foo|/hfp/* !foo|/hfp/* !/hfp/foo|/hfp/*/* !foo|/hfp/*/* !bar|/hfp/*/* !keep.me
*.o !x.o|!x.o *.o|*.o !x.o x.o|*.o !/hfp/x.o|*.o !/hfp/a/**|*.o !?.o|*.o !a|foo/* !keep.me|foo/** !keep.me
/hfp/foo/** !/hfp/foo/keep.me|/hfp/foo/* !/hfp/foo/bar|/hfp/foo/* !/hfp/foo/bar/y|*.o *.txt !y* !d.txt
**/node_modules|node_modules|/hfp/node_modules|node_modules/*|*/node_modules|w/**|/hfp/w /hfp/long foo
/hfp/* !/hfp/a /hfp/a/* !/hfp/a/b|* !*|*.js !**/m.js|!foo foo|[a-|[|[]a]|[]|[^]|a\|[z-a]oo|foo/[|**/[b|a[b
""".strip("\n").replace("\n", "|").split("|")


def make_tree():
    for path in sorted(DIRS):
        os.makedirs("/hfp/" + path, exist_ok=True)
    for path in TREE:
        if path not in DIRS:
            open("/hfp/" + path, "w").close()


def left_out(patterns, repository):
    flag = "--exclude"
    if patterns[0] == "i":
        flag, patterns = "--iexclude", patterns[1:]
    command = ["restic", "-r", repository, "--no-cache", "backup", "--dry-run", "-vv", "/hfp"]
    for pattern in patterns:
        command.append(flag + "=" + pattern)
    done = subprocess.run(command, capture_output=True, text=True, env={"RESTIC_PASSWORD": "x"})
    if done.returncode != 0:
        if "invalid pattern" in done.stderr:
            return "INVALID"
        if "is empty" not in done.stderr:
            sys.exit(str(patterns) + done.stderr)
    lines = [line.removeprefix("new").strip() for line in done.stdout.splitlines()]
    found = {line.split(", saved")[0].strip().rstrip("/") for line in lines if line.startswith("/")}
    kept = {p.removeprefix("/hfp/") for p in found if p.startswith("/hfp/")}
    top = {""} | kept
    return " ".join(sorted(p for p in set(TREE) | DIRS
                           if p not in kept and (p.rpartition("/")[0] in top)))


def main():
    with tempfile.TemporaryDirectory() as folder:
        make_tree()
        repository = folder + "/repository"
        subprocess.run(["restic", "-q", "-r", repository, "init"], check=True, env={"RESTIC_PASSWORD": "x"})
        print("# made by patterns_by_restic.py with", subprocess.getoutput("restic version").split(" comp")[0])
        print("#all\t" + " ".join(sorted(set(TREE) | DIRS)))
        for patterns in LISTS:
            print(patterns + "\t" + left_out(patterns.split(" "), repository), flush=True)
        shutil.rmtree("/hfp")


main()
