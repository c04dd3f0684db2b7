#!/usr/bin/env python3
"""Cases of tools/prepare_task.py that need no program: TOKENIZER, in an empty folder.

Each function is a case; those that fail are named with what was expected. A traceback of the tool
is a failure, whatever the case expects.
"""
import contextlib
import io
import os
import re
import resource
import sys
import traceback
from pathlib import Path

import prepare_task

TOKENIZER = os.path.abspath(sys.argv[1])
SMALL = ("--tokenizer", TOKENIZER, "--train", "2", "--dev", "1", "--test", "1", "--bos", "no")
OPTIONS = ("--template", "{text} ?", "--options", " no", " yes")
OWN = (*SMALL, *OPTIONS)
ROWS = (("the film was good .", "yes"), ("the plot was bad .", "0"), ("the cast was great .", "1"),
        ("the story was dull .", "no"))
OUT = Path("made.qzt")


class Failed(Exception):
    pass


def call(*arguments):
    """(exit code, what it printed) of the tool, called as from a shell."""
    sys.argv = ["prepare_task.py", *map(str, arguments)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            prepare_task.main()
            return 0, printed.getvalue()
        except SystemExit as ended:
            words = ended.code if isinstance(ended.code, str) else ""
            return 1 if words else ended.code, printed.getvalue() + words


def made(pattern, source, *arguments):
    """It writes OUT and says so; returns what it printed."""
    code, printed = call(source, OUT, *arguments)
    if code != 0 or not re.search(pattern, printed):
        raise Failed(f"expected a file and {pattern!r}, found exit code {code} and: {printed}")
    return printed


def refused(pattern, source, *arguments, out=OUT):
    """It says the sentence, and leaves OUT as it was."""
    before = OUT.read_bytes() if OUT.exists() else None
    code, printed = call(source, out, *arguments)
    if code == 0 or not re.search(pattern, printed):
        raise Failed(f"expected to be refused with {pattern!r}, found exit code {code} and: "
                     f"{printed}")
    if before != (OUT.read_bytes() if OUT.exists() else None) or list(Path().glob("*.tmp")):
        raise Failed(f"a refused task changed {OUT} or left a part of it: {list(Path().iterdir())}")


def write_csv(path, rows=ROWS):
    path = Path(path)
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows),
                    encoding="utf-8")
    return path


# --- files --------------------------------------------------------------------------------------

def input_as_output():
    source, kept = write_csv("own.csv"), write_csv("kept.csv")
    Path("link.csv").symlink_to(source)
    refused("own.csv: is read as an input", source, *OWN, out=source)
    refused("own.csv: is read as an input", "link.csv", *OWN, out=source)
    refused("own.csv: is read as an input", kept, *OWN, "--test-file", source, out=source)
    refused("is read as an input", source, *OWN, out=Path(TOKENIZER) / "tokenizer.json")
    refused("expected the name of a file to write, found a folder", source, *OWN, out=Path())
    if source.read_bytes() != kept.read_bytes():
        raise Failed("the source has changed")


def whole_or_nothing():
    """A disk that is full in the middle of the file leaves the file of before."""
    source = write_csv("own.csv")
    made("1 train|2 train", source, *OWN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        refused("File too large", source, *OWN, "--name", "another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- what runs ----------------------------------------------------------------------------------

CASES = [input_as_output, whole_or_nothing]


def run(case):
    """Whether it passed, in a folder of its own."""
    above = os.getcwd()
    os.mkdir(case.__name__)
    os.chdir(case.__name__)
    try:
        case()
        return True
    except Failed as error:
        print(f"FAILED {case.__name__}: {error}")
    except Exception:  # a traceback is what no user may see
        print(f"FAILED {case.__name__}: {traceback.format_exc()}")
    finally:
        os.chdir(above)
    return False


def main():
    passed = [run(case) for case in CASES]
    print(f"{sum(passed)} of {len(passed)} cases")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
