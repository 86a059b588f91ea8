#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Validates what holdfast --json printed against testdata/json-schema: every line is one object, and the last one is the
summary of the command, or an error. FILE is named NUMBER.COMMAND; in FILE.kinds stand the kinds of objects that must be in it.
usage: validate-json.py SCHEMAS FILE..."""
import json
import pathlib
import sys

import jsonschema


def validators(folder):
    for path in pathlib.Path(folder).glob("*.json"):
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        yield path.stem, jsonschema.Draft202012Validator(schema)


def check(path, known):
    names = []
    for number, line in enumerate(path.read_bytes().decode("utf-8").splitlines(), 1):
        thing = json.loads(line)
        name = thing["message_type"]
        if name == "summary":
            name += "-" + thing["command"]
        errors = [e.message for e in known[name].iter_errors(thing)]
        if errors:
            sys.exit(f"{path.name}:{number}: {line}\n  is no {name}: {errors}")
        names.append(name)
    if not names or names[-1] not in ("error", "summary" + path.suffix.replace(".", "-")):
        sys.exit(f"{path.name}: the last object is neither a summary nor an error: {names[-3:]}")
    if any(n == "error" or n.startswith("summary") for n in names[:-1]):
        sys.exit(f"{path.name}: a summary or an error stands before the last line")
    for kind in path.with_name(path.name + ".kinds").read_text().split():
        if kind not in names:
            sys.exit(f"{path.name}: no {kind} among {sorted(set(names))}")
    return names


def main():
    known = dict(validators(sys.argv[1]))
    seen = {name for file in sys.argv[2:] for name in check(pathlib.Path(file), known)}
    if seen != set(known):
        sys.exit(f"no example of {sorted(set(known) - seen)}")


main()
