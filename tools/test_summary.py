"""Sums the JUnit reports of several ctest runs: names what failed and why tests were skipped; the
last line is "N passed, N failed, N skipped". A report that is missing stands for a build that
failed. Exit code 1 if anything failed. Usage: test_summary.py REPORT.xml..."""

import re
import sys
import xml.etree.ElementTree
from pathlib import Path


def skip_reason(output):
    """The last line that says "skipped: ...", as the test scripts print it."""
    reasons = re.findall(r"^skipped: (.+)$", output, re.MULTILINE)
    return reasons[-1] if reasons else "exit code 77"


def failure_reason(output):
    """What the test scripts and cmocka say first of what is wrong."""
    found = re.search(r"^FAILED: (.+)$|^\[  FAILED  \] (\w+)$", output, re.MULTILINE)
    return (found.group(1) or found.group(2)) if found else "see its output above"


def skipped_cases(output):
    """The skipped cases of a cmocka program, and how many others ran. cmocka itself exits with 0
    even where every case was skipped."""
    skipped = re.findall(r"^\[  SKIPPED \] (?!\d+ test)(\S+?)\.?$", output, re.MULTILINE)
    ran = re.findall(r"^\[       OK \] \S+", output, re.MULTILINE)
    return sorted(set(skipped)), len(ran)


def judge(case):
    """One entry of a report as (verdict, note)."""
    output = case.findtext("system-out") or ""
    if case.find("skipped") is not None:
        reason = case.find("skipped").get("message", "")
        if reason and "SKIP_RETURN_CODE" not in reason:
            return "failed", reason  # ctest says "skipped" of a program that it could not start
        return "skipped", skip_reason(output)
    if case.get("status") != "run":
        return "failed", failure_reason(output)
    cases, ran_count = skipped_cases(output)
    if cases and ran_count == 0:
        return "skipped", "every case was: " + ", ".join(cases)
    if cases:
        return "passed", "skipped cases: " + ", ".join(cases)
    return "passed", ""


def main(report_paths):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in map(Path, report_paths):
        if not path.exists():
            counts["failed"] += 1
            print(f"failed   {path.parent}: the build")
            continue
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            verdict, note = judge(case)
            counts[verdict] += 1
            if note or verdict != "passed":
                print(f"{verdict:8s} {path.parent}: {case.get('name')}: {note}".rstrip(": "))
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 1 if counts["failed"] > 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
