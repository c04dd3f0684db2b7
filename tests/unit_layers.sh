# ctest: timeout=60
# The layers of the tree hold, and the check itself finds what it is there for.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
command -v python3 >/dev/null || skip "no python3"

run 0 python3 "$QZO_SOURCE/tools/check_layers.py" "$QZO_SOURCE"

# check LAYER TEXT PATTERN: a tree of one file src/LAYER/a.c with TEXT must be found guilty.
check() {
    rm -rf tree
    mkdir -p tree/src/"$1" tree/src/sweep tree/src/model tree/src/optim tree/src/base
    touch tree/src/sweep/s.h tree/src/model/m.h tree/src/optim/o.h tree/src/base/b.h
    printf '%s\n' "$2" >"tree/src/$1/a.c"
    run "$4" python3 "$QZO_SOURCE/tools/check_layers.py" tree
    says stdout "$3"
}
check trial '#include "sweep/s.h"' 'trial must not see sweep' 1
check optim '#include "model/m.h"' 'optim must not see model' 1
check trial '#include "model/m.h"' ' 0 findings' 0
check base '#include "b.h"' 'names no layer' 1
check base '#include "base/absent.h"' 'does not exist' 1
check model '#include <yaml.h>' 'belongs to sweep' 1
check model 'void f(void) { printf("x"); }' 'only src/cli prints' 1
check model 'void f(void) { g("printf(x)"); } /* exit(1) */' ' 0 findings' 0
check cli 'void f(void) { printf("x"); }' ' 0 findings' 0
for layer in optim trial sweep; do
    for text in 'if (model->mmdit != NULL)' 'if (bench->images)' 'qzo_flow_settings flow;' \
        '#include "model/forward.h"' '/* an image has no score */'; do
        check $layer "$text" 'must not know which kind of model it drives' 1
    done
    check $layer '/* overflow */ int inflow;' ' 0 findings' 0
done
check task 'if (task->images != NULL)' ' 0 findings' 0
