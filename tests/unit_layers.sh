# ctest: timeout=60
# The layers of the tree hold, and the check itself finds what it is there for.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_python3

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

# Five lines that know a kind of model, and one that does not.
kinds='model->mmdit;
task->images;
qzo_flow_settings settings;
/* an image */
qzo_forward *forward;
int overflow;'
for layer in optim trial sweep; do
    check $layer "$kinds" ' 5 findings' 1
    says stdout "a.c:4: $layer must not know which kind of model it drives: image"
done
check task "$kinds" ' 0 findings' 0
