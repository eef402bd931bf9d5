#!/usr/bin/env python3
"""The rules of the source tree that no compiler checks.

    tests/layering.py [--root DIR]    check the tree; one line per finding, then "N passed, N failed" (rules)
    tests/layering.py --self-test     prove on small made-up trees that every rule can fail
"""

import argparse
import pathlib
import re
import sys
import tempfile

# Lowest first: a file may include its own layer and those before it.
LAYERS = ["base", "digest", "store", "registry", "http", "cli"]

LINES_MAX = 800
LINES_WARN = 600
COLUMNS_MAX = 120
COLUMNS_MAX_TESTS = 160  # tables of cases read better on one line

# Everything else in <> is third-party.
SYSTEM_HEADERS = re.compile(
    r"(assert|complex|ctype|dirent|dlfcn|endian|err|errno|fcntl|fenv|float|fnmatch|getopt|glob|grp|ifaddrs|inttypes|"
    r"iso646|libgen|limits|locale|malloc|math|netdb|poll|pthread|pwd|regex|sched|search|semaphore|setjmp|signal|"
    r"spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|sysexits|syslog|"
    r"termios|threads|time|uchar|unistd|utime|wchar|wctype)\.h|(arpa|asm|linux|net|netinet|sys)/.+\.h"
)

# header: the files that may include it although the rule says one .c file. Each needs its reason here.
THIRD_PARTY_EXCEPTIONS = {}

BANNED_FUNCTIONS = {
    "strcpy": "snprintf or struct buf",
    "strcat": "struct buf",
    "sprintf": "snprintf or struct buf",
    "vsprintf": "vsnprintf",
    "gets": "fgets",
    "strtok": "memchr on a struct str",
    "atoi": "str_parse_u64",
    "atol": "str_parse_u64",
    "alloca": "a bounded array or malloc",
    "rand": "random_bytes",
    "srand": "random_bytes",
}

# Spelled so that this file does not find itself.
UNFINISHED_WORDS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")

TEXT_SUFFIXES = {".c", ".h", ".py", ".sh", ".md", ".txt", ".yaml", ".yml", ".json", ".service", ".1", ".lua", ".cmake"}
TEXT_NAMES = {"Makefile", "run"}
SKIPPED_FOLDERS = {".git", "build", "data", "corpus", "__pycache__", ".pytest_cache", ".cache"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED_FUNCTIONS) + r")\s*\(")
NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def without_comments_and_strings(text):
    """The code alone, with every line where it was."""
    return NOISE.sub(lambda found: "\n" * found.group().count("\n"), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


class Tree:
    def __init__(self, root):
        self.root = root
        self.warnings = []
        self.sources = {}  # path below root: text, of every .c and .h in src/
        self.texts = {}  # the same of every text file in the tree
        for path in sorted(root.rglob("*")):
            below = path.relative_to(root)
            if SKIPPED_FOLDERS.intersection(below.parts) or path.is_symlink() or not path.is_file():
                continue
            if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
                self.texts[str(below)] = path.read_text(encoding="utf-8")
                if below.parts[0] == "src" and path.suffix in (".c", ".h"):
                    self.sources[str(below)] = self.texts[str(below)]

    def c_files(self):
        return {path: text for path, text in self.texts.items() if path.endswith((".c", ".h"))}

    def includes(self):
        """(path, line, kind, header) of every #include in src/; kind is '<' or '"'."""
        for path, text in self.sources.items():
            for found in INCLUDE.finditer(text):
                yield path, line_of(text, found.start(1)), found.group(1), found.group(2)


def rule_layers(tree):
    """A layer includes only itself and the layers below."""
    for path, line, kind, header in tree.includes():
        if kind != '"':
            continue
        own = path.split("/")[1]
        other = header.split("/")[0]
        if f"src/{header}" not in tree.sources:
            yield f'{path}:{line}: "{header}" is not a file below src/ (write includes as "layer/file.h")'
        elif own in LAYERS and other in LAYERS and LAYERS.index(other) > LAYERS.index(own):
            yield f'{path}:{line}: {own}/ includes "{header}", which is above it'


def rule_known_layers(tree):
    """Every source file stands in a layer's folder."""
    for path in tree.sources:
        parts = path.split("/")
        if len(parts) != 3 or parts[1] not in LAYERS:
            yield f"{path}: not in one of src/{{{','.join(LAYERS)}}}/"


def rule_third_party(tree):
    """A third-party header is included by one .c file and by no .h file."""
    users = {}
    for path, line, kind, header in tree.includes():
        if kind == "<" and not SYSTEM_HEADERS.fullmatch(header):
            users.setdefault(header, []).append((path, line))
    for header, places in sorted(users.items()):
        allowed = THIRD_PARTY_EXCEPTIONS.get(header)
        for path, line in places:
            if allowed is not None and path not in allowed:
                yield f"{path}:{line}: <{header}> belongs to {', '.join(sorted(allowed))} alone"
            elif allowed is None and path.endswith(".h"):
                yield f"{path}:{line}: a header includes the third-party <{header}>"
        files = sorted({path for path, _ in places if path.endswith(".c")})
        if allowed is None and len(files) > 1:
            yield f"{files[1]}: <{header}> is already {files[0]}'s; call that file instead"


def rule_file_length(tree):
    """No source file is longer than LINES_MAX lines."""
    for path, text in tree.sources.items():
        lines = text.count("\n")
        if lines > LINES_MAX:
            yield f"{path}: {lines} lines; past {LINES_MAX} it should be two files"
        elif lines > LINES_WARN:
            tree.warnings.append(f"{path}: {lines} lines")


def rule_banned_functions(tree):
    """Functions that invite overflows or surprises are not called."""
    for path, text in tree.c_files().items():
        code = without_comments_and_strings(text)
        for found in CALL.finditer(code):
            name = found.group(1)
            yield f"{path}:{line_of(code, found.start())}: {name}: use {BANNED_FUNCTIONS[name]}"


def rule_finished(tree):
    """Nothing is marked as unfinished."""
    for path, text in tree.texts.items():
        for found in UNFINISHED_WORDS.finditer(text):
            yield f"{path}:{line_of(text, found.start())}: {found.group()}"


def rule_header_guards(tree):
    """A header is guarded by its own path, or is a table meant to be included many times (*_table.h)."""
    for path, text in tree.sources.items():
        if path.endswith(".h") and not path.endswith("_table.h"):
            guard = "ORLOP_" + re.sub(r"\W", "_", path.removeprefix("src/")).upper()
            if f"#ifndef {guard}\n#define {guard}\n" not in text:
                yield f"{path}: the include guard is not {guard}"


def rule_white_space(tree):
    """No tabs or trailing blanks in C and Python, no line past its limit, a newline at every file's end."""
    for path, text in tree.texts.items():
        if not text.endswith("\n"):
            yield f"{path}: no newline at the end"
        if not path.endswith((".c", ".h", ".py", ".sh")):
            continue
        columns_max = COLUMNS_MAX if path in tree.sources else COLUMNS_MAX_TESTS
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line or line != line.rstrip():
                yield f"{path}:{number}: tab or trailing blank"
            if len(line) > columns_max and "clang-format off" not in text:
                yield f"{path}:{number}: {len(line)} columns"


RULES = [
    rule_layers,
    rule_known_layers,
    rule_third_party,
    rule_file_length,
    rule_banned_functions,
    rule_finished,
    rule_header_guards,
    rule_white_space,
]


def findings(root):
    """({rule name: [finding …]}, warnings)"""
    tree = Tree(root)
    return {rule.__name__: list(rule(tree)) for rule in RULES}, tree.warnings


# ---- the self-test: what each made-up tree must be caught at ----

GOOD = {
    "src/base/buf.h": "#ifndef ORLOP_BASE_BUF_H\n#define ORLOP_BASE_BUF_H\n#endif\n",
    "src/base/buf.c": '#include "base/buf.h"\n#include <stdio.h>\n#include <sys/stat.h>\n',
    "src/base/err_table.h": "ERR(A)\n",
    "src/http/field.c": '#include "base/buf.h"\n#include <microhttpd.h>\n/* strcpy(a, b) */ char *s = "gets(x)";\n'
    "int strand(void); x->rand();\n",
}
BAD = [
    ("rule_layers", {"src/base/clock.c": '#include "http/field.h"\n', "src/http/field.h": "guard"}),
    ("rule_layers", {"src/base/clock.c": '#include "buf.h"\n'}),
    ("rule_known_layers", {"src/extra/clock.c": "int a;\n"}),
    ("rule_known_layers", {"src/clock.c": "int a;\n"}),
    ("rule_third_party", {"src/http/server.c": "#include <microhttpd.h>\n"}),
    ("rule_third_party", {"src/http/server.h": "guard#include <microhttpd.h>\n"}),
    ("rule_file_length", {"src/base/clock.c": "int a;\n" * (LINES_MAX + 1)}),
    ("rule_banned_functions", {"src/base/clock.c": "void f(void) { strcpy(a, b); }\n"}),
    ("rule_banned_functions", {"tests/unit/test_a.c": "int f(void) { return rand (); }\n"}),
    ("rule_finished", {"src/base/clock.c": "/* TO" + "DO: more */\n"}),
    ("rule_finished", {"tests/http/test_a.py": "# FIX" + "ME\n"}),
    ("rule_header_guards", {"src/base/clock.h": "#ifndef CLOCK_H\n#define CLOCK_H\n#endif\n"}),
    ("rule_white_space", {"src/base/clock.c": "\tint a;\n"}),
    ("rule_white_space", {"src/base/clock.c": "int a; \n"}),
    ("rule_white_space", {"src/base/clock.c": "int a;"}),
    ("rule_white_space", {"src/base/clock.c": "/*" + "x" * COLUMNS_MAX + "*/\n"}),
]


def self_test():
    failures = []
    for expected, files in [(None, {})] + BAD:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in {**GOOD, **files}.items():
                guard = "ORLOP_" + re.sub(r"\W", "_", path.removeprefix("src/")).upper()
                text = text.replace("guard", f"#ifndef {guard}\n#define {guard}\n#endif\n")
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            found = {name: lines for name, lines in findings(root)[0].items() if lines}
            if set(found) != ({expected} if expected else set()):
                failures.append(f"self-test: {list(files)}: expected {expected}, found {found}")
    return failures, 1 + len(BAD)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        failures, total = self_test()
        failed = len(failures)
    else:
        found, warnings = findings(arguments.root)
        for warning in warnings:
            print(f"warning: {warning}")
        failures = [f"{line} [{name.removeprefix('rule_')}]" for name, lines in found.items() for line in lines]
        failed, total = sum(1 for lines in found.values() if lines), len(found)
    print("\n".join(failures) + "\n" if failures else "", end="")
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
