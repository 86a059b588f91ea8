#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs COMMAND on a terminal of its own, answers what it asks for, and prints all that it showed.
Rules are read from TERMINAL_ANSWERS, a line each: REGEX<tab>ANSWER. An ANSWER of "@word" is the word of the paper key on
the screen whose number the regex found; "@wrong" is another one; "@file PATH" is the contents of a file.
usage: TERMINAL_ANSWERS=... terminal.py COMMAND..."""
import os
import pty
import re
import select
import sys
import time


def answer(rule, found, screen):
    if rule in ("@word", "@wrong"):
        word = re.search(rf"(?<!\d){found.group(1)}\. ([a-z]+)", screen).group(1)
        return word if rule == "@word" else word + "x"
    if rule.startswith("@file "):
        return open(rule[6:]).read()
    return rule


def main():
    lines = [l for l in os.environ.get("TERMINAL_ANSWERS", "").split("\n") if l]
    rules = [tuple(l.split("\t")) for l in lines]
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    screen, seen, end = "", 0, time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        screen += piece.decode("utf-8", "replace")
        for regex, rule in rules:
            found = re.compile(regex).search(screen, seen)
            if found:
                os.write(fd, (answer(rule, found, screen) + "\n").encode())
                seen = len(screen)
    sys.stdout.write(screen)
    sys.stdout.flush()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


main()
