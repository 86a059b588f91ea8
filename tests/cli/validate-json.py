#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Validates what holdfast --json printed against testdata/json-schema: every line is one object, and the last one is the
summary of COMMAND, or an error.
usage: validate-json.py SCHEMAS COMMAND <output"""
import json
import pathlib
import sys

import jsonschema


def validators(folder):
    for path in pathlib.Path(folder).glob("*.json"):
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        yield path.stem, jsonschema.Draft202012Validator(schema)


def main():
    known = dict(validators(sys.argv[1]))
    names = []
    for number, line in enumerate(sys.stdin.buffer.read().decode("utf-8").splitlines(), 1):
        thing = json.loads(line)
        name = thing["message_type"]
        if name == "summary":
            name += "-" + thing["command"]
        errors = [e.message for e in known[name].iter_errors(thing)]
        if errors:
            sys.exit(f"line {number}: {line}\n  is no {name}: {errors}")
        names.append(name)
    if not names or names[-1] not in ("error", "summary-" + sys.argv[2]):
        sys.exit(f"the last object is no summary of {sys.argv[2]} and no error: {names[-3:]}")
    if any(n == "error" or n.startswith("summary") for n in names[:-1]):
        sys.exit("a summary or an error stands before the last line")
    print(" ".join(sorted(set(names))))


main()
