# ctest: timeout=300
# Every update rule, and what changes a step beside it, against tools/check_rules.py: five steps of
# the tiny model followed by a program that shares nothing with this one. QZO_ORACLE_PYTHON names
# the interpreter of an environment made from tools/requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
"$python" -c 'import torch, xxhash' 2>/dev/null || skip "no torch and xxhash (QZO_ORACLE_PYTHON)"
fixtures=$QZO_SOURCE/tests/fixtures

# check SETTING=VALUE...: those that the trial has beside the common ones.
check() {
    local settings=(batch=12 samples_per_step=3 eps=1e-2 seed=7 "$@") yaml
    yaml=$(printf ', %s' "${settings[@]/=/: }")
    write_sweep sweep.yaml "steps: 5, evaluate_every: 0${yaml/, seed: 7/}" "seed: { value: 7 }"
    rm -rf out
    run 0 "$QZO" run sweep.yaml --out out --threads 1
    run 0 "$QZO" journal out 1 --csv
    mv stdout journal.csv
    run 0 "$python" "$QZO_SOURCE/tools/check_rules.py" "$fixtures/tiny-llama" \
        "$fixtures/tiny-task.qzt" journal.csv "${settings[@]}"
    cat stdout
}

check learning_rate=3e-3 clip=2
check learning_rate=3e-3 batches=per_sample directions=rademacher
check learning_rate=3e-2 perturbation=relative
check learning_rate=3e-3 update_rule=mean_clip clip_factor=1.2 clip_memory=4
check learning_rate=3e-3 update_rule=quantile_clip clip_quantile=0.5 clip_memory=4
check learning_rate=3e-3 update_rule=meazo moment_memory=3
check learning_rate=1e-3 update_rule=momentum momentum=0.8
check learning_rate=1e-2 update_rule=momentum perturbation=relative
check learning_rate=1e-3 update_rule=fzoo clip=3
check learning_rate=1e-2 update_rule=fzoo perturbation=relative directions=gaussian
check learning_rate=1e-3 update_rule=spsa_1_5 clip=3
check learning_rate=2e-3 update_rule=spsa_1_5 curvature_power=0.5 directions=gaussian
check learning_rate=3e-3 update_rule=mezo_gv clip=2
check learning_rate=3e-2 update_rule=mezo_gv guide_share=0.7 perturbation=relative
