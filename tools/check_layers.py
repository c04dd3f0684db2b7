"""Checks the direction of includes and who may print, exit and read the environment.

A file under src/ includes only from its own folder and from those to its left:
    base < weights < backend < comm < { model, task, optim } < trial < sweep < cli
(the three in braces do not see each other). A project header is named with its folder. kernels/
sees only itself and the headers that host and device share. Which kind of model a trial drives, its
layers do not say. Exit code 1, one line per finding."""

import re
import sys
from pathlib import Path

RANKS = [["base"], ["weights"], ["backend"], ["comm"], ["model", "task", "optim"], ["trial"],
         ["sweep"], ["cli"]]
RANK_OF = {layer: rank for rank, layers in enumerate(RANKS) for layer in layers}

# Foreign headers that one layer hides from the others.
OWNED_HEADERS = {"mpi.h": {"comm"}, "yaml.h": {"sweep"}, "sqlite3.h": {"sweep"},
                 "jansson.h": {"base", "weights", "model", "cli"}, "xxhash.h": {"base"}}

KERNEL_HEADERS = re.compile(r"kernels/\w+\.(cuh|h)|base/(host_device|philox|half|math32|update)\.h|"
                            r"weights/\w+_decode\.h")
KERNEL_TABLE_USERS = {"src/backend/cuda_state.h"}  # which the CUDA backend alone includes

# What only src/cli may call, and where else it is right.
CLI_ONLY = re.compile(r"(?<![\w.>])(printf|puts|putchar|vprintf|exit|_exit|quick_exit|abort|getenv|"
                      r"secure_getenv)\s*\(|\b(stdout|stderr)\b")
CLI_ONLY_EXCEPTIONS = {
    "src/base/check.h": "a failed assertion says where and aborts",
    "src/base/log.c": "the log writes to stderr",
    "src/comm/comm.c": "no memory between two collectives: the other ranks cannot be told",
}

# optim, trial and sweep drive every kind of model through src/trial/bench_kind.h. What only one
# kind has, comments and includes count, stands in none of their files but these.
KIND_LAYERS = {"optim", "trial", "sweep"}
KIND_WORDS = re.compile(r"(?<![a-z])(mmdit|images?|flow|diffusion|latents?)(?![a-z])|"
                        r"qzo_(forward|generat|answers)\w*|model/(forward|generate|pack)\.h",
                        re.IGNORECASE)
KIND_FILES = {
    "src/trial/bench_kind.h": "declares the entries",
    "src/trial/bench_kind_registry.c": "lists the entries",
    "src/trial/text_bench.c": "the entry of texts",
    "src/trial/answers.c": "its generated answers",
    "src/trial/answers.h": "its generated answers",
    "src/trial/task_sizes.h": "its rows",
    "src/trial/image_bench.c": "the entry of images",
    "src/trial/image_bench.h": "the entry of images",
    "src/trial/setting_table.c": "lists the settings of all kinds in the order of identities",
}


def without_comments(text):
    """The code with comments and strings blanked out; line numbers stay."""
    comment = r"/\*.*?\*/|//[^\n]*"
    string = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    pattern = re.compile(f"{comment}|{string}", re.DOTALL)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def may_see(layer, other):
    return layer == other or RANK_OF[other] < RANK_OF[layer]


def check_project_include(root, name, layer, target):
    """A complaint about one #include "target" of the file `name`, or None."""
    folder = target.split("/")[0]
    if target == "kernels/kernels.h":
        return None if name in KERNEL_TABLE_USERS else "only cuda_state.h includes kernels.h"
    if folder not in RANK_OF:
        return f'"{target}" names no layer (write "folder/file.h")'
    if not (root / "src" / target).exists():
        return f'"{target}" does not exist under src/'
    if not may_see(layer, folder):
        return f'"{target}": {layer} must not see {folder}'
    return None


def check_source(root, path):
    """All complaints about one file under src/, as (line, text)."""
    name = path.relative_to(root).as_posix()
    layer = path.relative_to(root / "src").parts[0]
    text = path.read_text(encoding="utf-8")
    if layer not in RANK_OF:
        yield 1, f"src/{layer} is not a layer"
        return
    for number, line in enumerate(text.splitlines(), 1):
        project = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if project:
            complaint = check_project_include(root, name, layer, project.group(1))
            if complaint:
                yield number, complaint
        if system and layer not in OWNED_HEADERS.get(system.group(1), {layer}):
            owners = " and ".join(sorted(OWNED_HEADERS[system.group(1)]))
            yield number, f"<{system.group(1)}> belongs to {owners}"
    for number, line in enumerate(text.splitlines(), 1):
        found = KIND_WORDS.search(line)
        if found and layer in KIND_LAYERS and name not in KIND_FILES:
            yield number, f"{layer} must not know which kind of model it drives: {found.group()}"
    if layer == "cli" or name in CLI_ONLY_EXCEPTIONS:
        return
    for number, line in enumerate(without_comments(text).splitlines(), 1):
        found = CLI_ONLY.search(line)
        if found:
            yield number, f"only src/cli prints, exits or reads the environment: {found.group()}"


def check_kernel(path):
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        project = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if project and not KERNEL_HEADERS.fullmatch(project.group(1)):
            yield number, f'"{project.group(1)}": kernels see only kernels/ and shared headers'


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    sources = [p for p in sorted((root / "src").rglob("*")) if p.suffix in (".c", ".h")]
    kernels = [p for p in sorted((root / "kernels").rglob("*"))
               if p.suffix in (".cu", ".cuh", ".h")]
    findings = [(path, *finding) for path in sources for finding in check_source(root, path)]
    findings += [(path, *finding) for path in kernels for finding in check_kernel(path)]
    for path, number, text in findings:
        print(f"{path.relative_to(root)}:{number}: {text}")
    print(f"{len(sources) + len(kernels)} files, {len(findings)} findings")
    return 1 if findings or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
