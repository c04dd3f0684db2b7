"""Types of command line options, for argparse: what is out of range is refused by the option's
name."""
import argparse


def whole(least, most=None):
    """A whole number of least to most, both included."""
    wanted = f"{least} or more" if most is None else f"{least} to {most}"

    def parse(text):
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() else None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"expected a whole number, {wanted}, found {text}")
        return number
    return parse
