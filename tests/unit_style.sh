# ctest: timeout=60
# Lengths, and the layout that clang-format 14 gives.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_python3

# The check finds what it is there for.
mkdir -p tree/src
{
    printf 'int long_one(\n    int a) {\n'
    for ((i = 0; i < 70; i++)); do printf '    a++;\n'; done
    printf '    return a;\n}\n'
    printf '%0101d\n' 0
} >tree/src/a.c
run 1 python3 "$QZO_SOURCE/tools/check_style.py" tree
says stdout 'a.c:1: long_one has 74 lines, at most 70'
says stdout 'a.c:75: 101 columns, at most 100'

run 0 python3 "$QZO_SOURCE/tools/check_style.py" "$QZO_SOURCE"

clang_format=$(command -v clang-format-14 || command -v clang-format) || skip "no clang-format"
"$clang_format" --version | grep -q 'version 14\.' ||
    skip "$("$clang_format" --version), not 14: it would lay out other lines"
find "$QZO_SOURCE/src" "$QZO_SOURCE/tests" -name '*.[ch]' -print0 -o -name '*.cpp' -print0 >files
[[ -s files ]] || fail "no C files under $QZO_SOURCE"
run 0 xargs -0 -a files "$clang_format" --dry-run -Werror --style=file
