"""What a user asks of a task, checked before anything is encoded: a template of their own, from the
command line or a YAML file, and the loss and metric of any task."""
import difflib

from task_protocol import Example
from task_rows import TaskError

LOSSES = ("classification", "lm")
METRICS = ("accuracy", "f1", "exact_match", "perplexity")
GENERATED = ("f1", "exact_match")  # of text that the model generates, compared with the answer


def one_of(words):
    words = [str(word) for word in words]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def nearest(word, known):
    """A sentence's end: the known word that looks most like this one."""
    close = difflib.get_close_matches(str(word), [str(name) for name in known], 1, 0.0)
    return f"; the nearest is {close[0]!r}" if close else ""


def check_known(key, value, known):
    if value not in known:
        raise TaskError(f"{key}: expected {one_of(known)}, found {value!r}{nearest(value, known)}")


def check_text(key, value):
    if not isinstance(value, str):
        raise TaskError(f"{key}: expected a text, found {value!r}; YAML takes yes, no and numbers "
                        "for texts in quotes only")


def check_score(loss, metric, has_choice):
    """A loss or metric that would be the same number whatever the model says means nothing.
    has_choice: examples have options to choose from, and not one answer to produce."""
    check_known("loss", loss, LOSSES)
    check_known("metric", metric, METRICS)
    if not has_choice and loss == "classification":
        raise TaskError("loss classification: expected two options or more, found one answer per "
                        "example, of which it is always 0; lm is the loss of its tokens")
    if not has_choice and metric == "accuracy":
        raise TaskError("metric accuracy: expected two options or more, found one answer per "
                        f"example, which is always right; {one_of((*GENERATED, 'perplexity'))} "
                        "score an answer")
    if has_choice and metric in GENERATED:
        raise TaskError(f"metric {metric}: expected one answer per example, which is generated, "
                        "found options to choose from; accuracy or perplexity score those")


class Template:
    """A user's own task: rows to Examples."""

    KEYS = {"name", "template", "options", "answer", "calibration", "references_field",
            "label_field", "loss", "metric"}

    def __init__(self, settings):
        for key, value in settings.items():
            if key not in self.KEYS:
                raise TaskError(f"unknown key {key!r}; known: {', '.join(sorted(self.KEYS))}"
                                + nearest(key, self.KEYS))
            if key != "options" and value is not None:
                check_text(key, value)
        self.prompt, self.answer = settings.get("template"), settings.get("answer")
        self.options = settings.get("options")
        if self.options is not None:
            check_options(self.options)
        self.check_parts(settings)
        self.calibration = settings.get("calibration")
        self.label_field = settings.get("label_field") or "label"
        self.references_field = settings.get("references_field")
        is_choice = self.answer is None
        self.loss = settings.get("loss") or ("classification" if is_choice else "lm")
        self.metric = settings.get("metric") or ("accuracy" if is_choice else "perplexity")
        check_score(self.loss, self.metric, is_choice)

    def check_parts(self, settings):
        if self.prompt is None or (self.options is None and self.answer is None):
            raise TaskError("expected a task's name, or a template with options or an answer")
        if self.options is not None and self.answer is not None:
            raise TaskError("expected options to choose from or an answer to produce, found both")
        for key in ("references_field",) if self.answer is None else ("calibration",):
            if settings.get(key) is not None:
                raise TaskError(f"{key}: expected only beside "
                                f"{'an answer' if self.answer is None else 'options'}")

    def fill(self, text, row):
        try:
            return text.format_map(row)
        except KeyError as error:
            name = error.args[0]
            raise TaskError(f"template {text!r}: expected fields of the rows ({', '.join(row)}), "
                            f"found {name!r}{nearest(name, row)}") from error
        except (IndexError, ValueError, AttributeError, TypeError) as error:
            raise TaskError(f"template {text!r}: expected fields of the rows ({', '.join(row)}) in "
                            f"braces, and {{{{ for a brace itself: {error}") from error

    def field(self, row, key, name):
        if name not in row:
            raise TaskError(f"{key}: expected a field of the rows ({', '.join(row)}), "
                            f"found {name!r}{nearest(name, row)}")
        return row[name]

    def label(self, row):
        label = self.field(row, "label_field", self.label_field)
        texts = [str(option).strip() for option in self.options]
        if isinstance(label, str) and label in texts:
            return texts.index(label)
        text = str(int(label)) if isinstance(label, bool) else str(label)
        if not text.isdigit() or int(text) >= len(self.options):
            raise TaskError(f"{self.label_field}: expected 0 to {len(self.options) - 1} or one of "
                            f"the options, found {label!r}")
        return int(text)

    def references(self, row):
        """Texts that a generated answer is compared with; none: the answer alone."""
        if self.references_field is None:
            return []
        found = self.field(row, "references_field", self.references_field) or []
        found = [found] if isinstance(found, str) else found
        if not isinstance(found, list) or any(not isinstance(text, str) for text in found):
            raise TaskError(f"{self.references_field}: expected a text or a list of texts, found "
                            f"{found!r}")
        return found

    def example(self, row):
        prompt = self.fill(self.prompt, row)
        if self.answer is None:
            return Example(prompt, [self.fill(text, row) for text in self.options],
                           [self.label(row)])
        answer = self.fill(self.answer, row)
        return Example(prompt, [answer], [0], self.references(row) or [answer.strip()])


def check_options(options):
    if not isinstance(options, list) or len(options) < 2:
        raise TaskError(f"options: expected a list of two texts or more, found {options!r}")
    for text in options:
        check_text("options", text)
    if len({text.strip() for text in options}) < len(options):
        raise TaskError(f"options: expected texts that differ, found {options!r}")
