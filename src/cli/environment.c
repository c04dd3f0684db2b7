/* The environment variables that the program reads; all of them. */
#include "cli/cli.h"

#include <stdlib.h>

qzo_launch qzo_environment_launch(void) {
    static const char *const launchers[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    qzo_launch launch = {0};
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
        launch.under_launcher |= getenv(launchers[i]) != NULL;
    /* Set inside a job step only: the shell of a batch script or of salloc has SLURM_NTASKS too,
     * and a program that is started there alone is right to be alone. */
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    long count = tasks != NULL ? strtol(tasks, NULL, 10) : 0;
    if (count > 0 && count <= QZO_RANKS_PER_TRIAL_MAX) launch.expected_ranks = (int)count;
    return launch;
}

const char *qzo_environment_job(void) { return getenv("SLURM_JOB_ID"); }
