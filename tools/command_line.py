"""What the command lines of the tools share."""
import argparse
import contextlib
import sys
from pathlib import Path


def parser_of(doc):
    """Of a program whose --help begins with all that its first lines say."""
    return argparse.ArgumentParser(description=doc,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


@contextlib.contextmanager
def needed(requirements):
    """Around the imports of a program's packages: one that is missing is named, and where to get
    it. Programs read their arguments before, so that --help needs none."""
    try:
        yield
    except ImportError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}; it needs tools/{requirements}: pip install "
                 f"-r tools/{requirements}")


def whole(least, most=None):
    """The type of an option: a whole number of least to most, both included. Others are refused by
    the option's name."""
    wanted = f"{least} or more" if most is None else f"{least} to {most}"

    def parse(text):
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() else None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"expected a whole number, {wanted}, found {text}")
        return number
    return parse
