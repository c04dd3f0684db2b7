/* qzo doctor: what a run would find on this machine, and what is wrong with it. Under srun or
 * mpirun all ranks take part and rank 0 prints; started alone it says what one process can see. */
#include "cli/cli.h"
#include "cli/findings.h"

#include "backend/cuda_module.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "comm/peers.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DRIVER_DEVICE "/dev/nvidiactl" /* there wherever the driver is loaded */

enum { LINE_BYTES = 512, GATHER_COUNT = 200, RECORD_BYTES = 32 };

/* A step takes milliseconds at least; an exchange that takes one is felt. */
static const double GATHER_SECONDS_MAX = 1e-3;

/* --- this process --- */

static void find_program(qzo_findings *findings) {
    qzo_finding_add(findings, "program", "qzo %s", qzo_build_text());
    qzo_finding *arithmetic =
        qzo_finding_add(findings, "processor", "%s instructions", qzo_cpu_name(qzo_cpu()));
    if (qzo_cpu_check_float_mode() != QZO_OK)
        qzo_finding_advise(arithmetic, QZO_FINDING_PROBLEM, "%s", qzo_error_message());
}

/* The world of ranks; NULL where they do not find each other, which is then a finding. */
static qzo_comm *find_world(qzo_findings *findings) {
    qzo_launch launch = qzo_environment_launch();
    qzo_comm *world = NULL;
    if (qzo_comm_world_open(&world, &launch) != QZO_OK) {
        qzo_finding *ranks = qzo_finding_add(findings, "ranks", "%s", qzo_error_message());
        qzo_finding_advise(ranks, QZO_FINDING_PROBLEM,
                           "add --mpi=pmix to srun; `srun --mpi=list` must name pmix, and Slurm "
                           "must have been built with the PMIx of this MPI");
        return NULL;
    }
    if (world->size == 1 && !launch.under_launcher) {
        qzo_finding *ranks = qzo_finding_add(findings, "ranks", "1, started alone");
        if (qzo_environment_job() != NULL)
            qzo_finding_advise(ranks, QZO_FINDING_WARNING,
                               "inside a job: `srun --mpi=pmix qzo doctor` looks at its ranks");
    }
    return world;
}

/* --- the ranks together; collective, findings are kept by rank 0 --- */

static int host_count(const qzo_peer *peers, int size) {
    int hosts = 0;
    for (int rank = 0; rank < size; rank++) {
        bool is_new = true;
        for (int before = 0; before < rank; before++)
            is_new &= strcmp(peers[before].host, peers[rank].host) != 0;
        hosts += is_new;
    }
    return hosts;
}

/* Cores that the ranks of each host may use together: a launcher often gives each rank its own. */
static void find_cores(qzo_findings *findings, qzo_comm *world, const qzo_peer *peers) {
    cpu_set_t mine, together, *all = calloc((size_t)world->size, sizeof mine);
    int fewest = 0, ranks_there = 1, worst = -1;
    CPU_ZERO(&mine);
    (void)sched_getaffinity(0, sizeof mine, &mine);
    if (all == NULL || qzo_comm_gather(world, all, &mine, sizeof mine) != QZO_OK) {
        free(all);
        return;
    }
    for (int rank = 0; rank < world->size; rank++) {
        int ranks = 0;
        CPU_ZERO(&together);
        for (int other = 0; other < world->size; other++) {
            if (strcmp(peers[other].host, peers[rank].host) != 0) continue;
            CPU_OR(&together, &together, &all[other]);
            ranks++;
        }
        int cores = CPU_COUNT(&together);
        if (worst >= 0 && cores * ranks_there >= fewest * ranks) continue;
        worst = rank;
        fewest = cores;
        ranks_there = ranks;
    }
    free(all);
    qzo_finding *finding =
        qzo_finding_add(findings, "cores", "%d for %d rank%s on %s", fewest, ranks_there,
                        ranks_there == 1 ? "" : "s", peers[worst].host);
    if (fewest < ranks_there)
        qzo_finding_advise(finding, QZO_FINDING_WARNING,
                           "ranks wait for each other's cores: fewer ranks per node, or more "
                           "--cpus-per-task (srun needs it too, not sbatch alone)");
}

static void find_exchange(qzo_findings *findings, qzo_comm *world) {
    char mine[RECORD_BYTES] = {0}, *all = calloc((size_t)world->size, RECORD_BYTES);
    if (world->size == 1 || all == NULL) {
        free(all);
        return;
    }
    qzo_status status = qzo_comm_gather(world, all, mine, RECORD_BYTES);
    double begin = qzo_clock_seconds();
    for (int i = 0; status == QZO_OK && i < GATHER_COUNT; i++)
        status = qzo_comm_gather(world, all, mine, RECORD_BYTES);
    double seconds = (qzo_clock_seconds() - begin) / GATHER_COUNT;
    free(all);
    qzo_finding *finding =
        qzo_finding_add(findings, "exchange", "%.3g us for a step's records", 1e6 * seconds);
    if (status != QZO_OK)
        qzo_finding_advise(finding, QZO_FINDING_PROBLEM, "%s", qzo_error_message());
    else if (seconds > GATHER_SECONDS_MAX)
        qzo_finding_advise(finding, QZO_FINDING_WARNING,
                           "slow: more ranks than cores, or the wrong network (Open MPI: "
                           "OMPI_MCA_btl_tcp_if_include)");
}

static void find_devices(qzo_findings *findings, const qzo_peer *peers, int size) {
    const qzo_cuda_module *module = NULL;
    int count = 0;
    if (qzo_cuda_available() != QZO_OK) {
        qzo_finding *none = qzo_finding_add(findings, "GPUs", "none: %s", qzo_error_message());
        if (access(DRIVER_DEVICE, F_OK) == 0)
            qzo_finding_advise(none, QZO_FINDING_WARNING,
                               "this host has a driver for NVIDIA's GPUs: ask Slurm for them "
                               "(--gpus-per-node), and look at CUDA_VISIBLE_DEVICES; `qzo "
                               "--version` must name cuda");
        return;
    }
    if (qzo_cuda_module_open(&module) != QZO_OK || module->device_count(&count) != QZO_OK) {
        qzo_finding *finding = qzo_finding_add(findings, "GPUs", "%s", qzo_error_message());
        qzo_finding_advise(finding, QZO_FINDING_PROBLEM,
                           "a driver is there, but this build cannot use it");
        return;
    }
    int on_host = 0;
    for (int rank = 0; rank < size; rank++) on_host += strcmp(peers[rank].host, peers[0].host) == 0;
    qzo_finding *finding = qzo_finding_add(findings, "GPUs",
                                           "%d visible to rank 0, %d rank%s on "
                                           "its host",
                                           count, on_host, on_host == 1 ? "" : "s");
    if (count == 1 && on_host > 1)
        qzo_finding_advise(finding, QZO_FINDING_WARNING,
                           "each rank may see one GPU only: give GPUs per node (--gpus-per-node), "
                           "not per task, so that NCCL finds the links between them");
    if (qzo_peers_check_devices(peers, 0, size) != QZO_OK)
        qzo_finding_advise(finding, QZO_FINDING_WARNING,
                           "%s: their records travel over MPI, and their work takes turns",
                           qzo_error_message());
}

static qzo_status find_peers(qzo_findings *findings, qzo_comm *world, const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_peer *peers = NULL;
    int local_rank = 0, local_size = 1;
    QZO_TRY(qzo_comm_local_rank(world, &local_rank, &local_size));
    qzo_backend_options backend_options = {.thread_count = qzo_threads(options, local_size),
                                           .local_rank = local_rank};
    status = qzo_backend_open(&backend, options->backend_name, &backend_options);
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_peers_gather(&peers, world, backend, qzo_build_text()));
    if (world->size > 1) {
        int hosts = host_count(peers, world->size);
        qzo_finding_add(findings, "ranks", "%d on %d host%s", world->size, hosts,
                        hosts == 1 ? "" : "s");
    }
    qzo_finding *alike =
        qzo_finding_add(findings, "libraries", "%s%s%s", peers[0].arithmetic,
                        peers[0].libraries[0] != '\0' ? "; " : "", peers[0].libraries);
    if (qzo_peers_check_alike(peers, world->size) != QZO_OK)
        qzo_finding_advise(alike, QZO_FINDING_PROBLEM, "%s", qzo_error_message());
    find_devices(findings, peers, world->size);
    find_cores(findings, world, peers);
    find_exchange(findings, world);
cleanup:
    if (status != QZO_OK) {
        qzo_finding *finding = qzo_finding_add(findings, "backend", "%s", qzo_error_message());
        qzo_finding_advise(finding, QZO_FINDING_PROBLEM, "`qzo run` would leave with this error");
    }
    free(peers);
    qzo_backend_close(backend);
    return status;
}

/* --- Slurm, as its own commands describe it --- */

/* The value behind "KEY = " in a command's output; false where there is none. */
static bool setting_of(char out[LINE_BYTES], const char *command, const char *key) {
    char line[LINE_BYTES];
    bool found = false;
    FILE *output = popen(command, "r");
    if (output == NULL) return false;
    while (fgets(line, sizeof line, output) != NULL) {
        size_t length = strlen(key);
        if (found || strncmp(line, key, length) != 0) continue;
        const char *value = line + length + strspn(line + length, " =");
        snprintf(out, LINE_BYTES, "%.*s", (int)strcspn(value, "\n"), value);
        found = true;
    }
    pclose(output);
    return found;
}

static bool output_has(const char *command, const char *word) {
    char line[LINE_BYTES];
    bool found = false;
    FILE *output = popen(command, "r");
    while (output != NULL && fgets(line, sizeof line, output) != NULL)
        found |= strstr(line, word) != NULL;
    if (output != NULL) pclose(output);
    return found;
}

static void find_slurm(qzo_findings *findings) {
    static const char config[] = "scontrol show config 2>/dev/null";
    char version[LINE_BYTES], fence[LINE_BYTES] = "";
    if (!setting_of(version, config, "SLURM_VERSION")) {
        qzo_finding_add(findings, "Slurm", "none found here");
        return;
    }
    bool has_pmix = output_has("srun --mpi=list 2>&1", "pmix");
    qzo_finding *slurm = qzo_finding_add(findings, "Slurm", "%.40s, srun has %spmix", version,
                                         has_pmix ? "" : "no ");
    if (!has_pmix)
        qzo_finding_advise(slurm, QZO_FINDING_PROBLEM,
                           "without it the ranks do not find each other: install Slurm's PMIx "
                           "plugin (Debian: libpmix-dev beside slurmd), or start with mpirun");
    if (strtol(version, NULL, 10) >= 23) return;
    bool is_told = setting_of(fence, config, "PMIxCollFence");
    bool is_ring = is_told && strstr(fence, "ring") != NULL;
    qzo_finding *pmix =
        qzo_finding_add(findings, "PMIx fence", "%.40s", is_told ? fence : "not told by scontrol");
    if (!is_ring)
        qzo_finding_advise(pmix, QZO_FINDING_WARNING,
                           "on several nodes a few of a hundred starts crash in MPI_Init with a "
                           "Slurm this old: export SLURM_PMIX_FENCE=ring, or PMIxCollFence=ring "
                           "in mpi.conf");
}

int qzo_cmd_doctor(const qzo_options *options) {
    qzo_findings findings = {.count = 0};
    int32_t code = QZO_EXIT_OK;
    find_program(&findings);
    qzo_comm *world = find_world(&findings);
    if (world != NULL) {
        qzo_log_configure(QZO_LOG_ERROR, world->rank, world->size);
        (void)find_peers(&findings, world, options); /* its error is a finding */
    }
    if (world == NULL || world->rank == 0) {
        find_slurm(&findings);
        if (options->out_folder != NULL) qzo_findings_of_folder(&findings, options->out_folder);
        qzo_status status = qzo_findings_print(&findings, options->json);
        code = qzo_exit_report(status, options);
        if (code == QZO_EXIT_OK && qzo_findings_have_problem(&findings))
            code = QZO_EXIT_ENVIRONMENT;
    }
    if (world != NULL && qzo_comm_broadcast(world, &code, sizeof code, 0) != QZO_OK)
        code = QZO_EXIT_ENVIRONMENT;
    qzo_comm_close(world);
    return code;
}
