"""Checks lengths: lines of at most 100 columns, functions of at most 70 lines, files of at most 600
(1000 with a reason in FILE_EXCEPTIONS, never more); no tabs in C, no trailing spaces. What
clang-format can check is left to it. Exit code 1 and one line per finding."""

import ast
import re
import subprocess
import sys
from pathlib import Path

LINE_COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
FILE_LINES_HARD_MAX = 1000

FOLDERS = ("src", "kernels", "tests", "tools", ".ci", "slurm")
C_SUFFIXES = (".c", ".h", ".cu", ".cuh", ".cpp")

# Path to the reason why it may be longer. Functions are named PATH:FUNCTION.
FILE_EXCEPTIONS = {}
FUNCTION_EXCEPTIONS = {}
LINE_EXCEPTIONS = {}


def c_functions(lines):
    """(name, first line, line count) of every function of several lines. As clang-format lays them
    out, only a signature has a parenthesis on a line that starts in column 1, and only a function
    ends with a lone brace there (types end with a semicolon)."""
    start, name = 0, ""
    for number, line in enumerate(lines, 1):
        found = re.match(r"[A-Za-z_][^(]*?(\w+)\(", line)
        if found:
            start, name = number, found.group(1)
        elif line == "}" and start:
            yield name, start, number - start + 1
            start = 0


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def shell_functions(lines):
    start, name = 0, ""
    for number, line in enumerate(lines, 1):
        found = re.match(r"(\w+)\(\) \{$", line)
        if found:
            start, name = number, found.group(1)
        elif line == "}" and start:
            yield name, start, number - start + 1
            start = 0


def functions_of(path, text, lines):
    if path.suffix in C_SUFFIXES:
        return c_functions(lines)
    if path.suffix == ".py":
        return python_functions(text)
    return shell_functions(lines)


def check_file(name, path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    limit = FILE_LINES_HARD_MAX if name in FILE_EXCEPTIONS else FILE_LINES_MAX
    if len(lines) > limit:
        yield 1, f"{len(lines)} lines, at most {limit}"
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_COLUMNS_MAX and name not in LINE_EXCEPTIONS:
            yield number, f"{len(line)} columns, at most {LINE_COLUMNS_MAX}"
        if line != line.rstrip():
            yield number, "spaces at the end of the line"
        if "\t" in line and path.suffix in C_SUFFIXES:
            yield number, "a tab"
    for function, start, count in functions_of(path, text, lines):
        if count > FUNCTION_LINES_MAX and f"{name}:{function}" not in FUNCTION_EXCEPTIONS:
            yield start, f"{function} has {count} lines, at most {FUNCTION_LINES_MAX}"


def is_script(path):
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def project_files(root):
    """Tracked and new files that git does not ignore; without git, all of the folders."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "--", *FOLDERS],
        capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:
        names = [p.relative_to(root).as_posix() for folder in FOLDERS
                 for p in (root / folder).rglob("*")]
    for name in sorted(set(names)):
        path = root / name
        if not path.is_file() or "fixtures/" in name and path.suffix != ".py":
            continue
        if path.suffix in (*C_SUFFIXES, ".py", ".sh") or not path.suffix and is_script(path):
            yield name, path


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    files = list(project_files(root))
    findings = [(name, *finding) for name, path in files for finding in check_file(name, path)]
    for name, number, text in findings:
        print(f"{name}:{number}: {text}")
    exceptions = {**FILE_EXCEPTIONS, **FUNCTION_EXCEPTIONS, **LINE_EXCEPTIONS}
    for name, reason in exceptions.items():
        print(f"allowed: {name}: {reason}")
    print(f"{len(files)} files, {len(findings)} findings")
    return 1 if findings or not files else 0


if __name__ == "__main__":
    sys.exit(main())
