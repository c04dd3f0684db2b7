/* What comm_nccl.c does where NCCL fails on one rank: real ranks over MPI, and an NCCL that does
 * what each test has in its script. A rank whose NCCL works must neither finalize nor wait longer
 * than a deadline for one that is gone, and the group below goes on. Time is the script's as well:
 * each look at a communicator that makes no progress takes SECONDS_PER_LOOK (the linker puts
 * __wrap_clock_gettime in the clock's place). */
#include "rank_support.h"

#include "comm/comm_nccl.h"
#include "nccl.h"

#include <string.h>
#include <time.h>

qzo_status qzo_cuda_comm_open(qzo_comm **out, qzo_comm *base);
int __real_clock_gettime(clockid_t which, struct timespec *now);
int __wrap_clock_gettime(clockid_t which, struct timespec *now);

typedef enum {
    ALL_WELL,
    INIT_REFUSED,        /* on the last rank; the others succeed */
    INIT_REFUSED_OTHERS, /* on the last rank; the others wait for it */
    INIT_ERROR_LATER,    /* on the last rank, asynchronously; the others wait for it */
    INIT_STUCK,          /* on all ranks */
    GATHER_ERROR,        /* the same of the first gather */
    GATHER_STUCK,        /* on all ranks */
    FINALIZE_STUCK
} script;

typedef enum { NOTHING, INIT, GATHER, FINALIZE } last_call;

struct ncclComm {
    last_call last;
};

enum {
    SECONDS_PER_LOOK = 7,
    ROUND = 1,
    LONGEST_OPEN = 300,
    LONGEST_GATHER = 1800,
    LONGEST_CLOSE = 60
};

static script plan;
static qzo_comm *wire; /* carries what the scripted NCCL gathers */
static time_t seconds_passed;
static int inits, gathers, finalizes, destroys, aborts;
static struct ncclComm one; /* a rank keeps one communicator */

int __wrap_clock_gettime(clockid_t which, struct timespec *now) {
    int failed = __real_clock_gettime(which, now);
    now->tv_sec += seconds_passed;
    return failed;
}

static bool is_bad_rank(void) { return world->rank == world->size - 1; }

/* --- NCCL --- */

ncclResult_t ncclGetVersion(int *version) {
    *version = 0;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t code) {
    return code == ncclRemoteError ? "remote error" : "system error";
}

const char *ncclGetLastError(ncclComm_t comm) {
    (void)comm;
    return "by the script";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *out) {
    memset(out, 7, sizeof *out);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    inits++;
    bool is_right = size == world->size && rank == world->rank && id.internal[127] == 7 &&
                    config->blocking == 0 && config->minCTAs == 1 && config->maxCTAs == 1;
    if (!is_right) return ncclSystemError;
    if ((plan == INIT_REFUSED || plan == INIT_REFUSED_OTHERS) && is_bad_rank())
        return ncclSystemError;
    one.last = INIT;
    *out = &one;
    return ncclInProgress;
}

static ncclResult_t progress(const struct ncclComm *comm) {
    bool stuck = (plan == GATHER_STUCK && comm->last == GATHER) ||
                 (plan == FINALIZE_STUCK && comm->last == FINALIZE) ||
                 ((plan == INIT_REFUSED_OTHERS || plan == INIT_STUCK) && comm->last == INIT);
    bool error = (plan == INIT_ERROR_LATER && comm->last == INIT) ||
                 (plan == GATHER_ERROR && comm->last == GATHER);
    if (error && is_bad_rank()) return ncclRemoteError;
    return stuck || error ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *out) {
    *out = progress(comm);
    if (*out == ncclInProgress) seconds_passed += SECONDS_PER_LOOK;
    return ncclSuccess;
}

ncclResult_t ncclAllGather(const void *mine, void *all, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    (void)stream;
    gathers++;
    comm->last = GATHER;
    if (type != ncclUint8) return ncclSystemError;
    if (progress(comm) != ncclSuccess) return ncclInProgress;
    return qzo_comm_gather(wire, all, mine, count) == QZO_OK ? ncclInProgress : ncclSystemError;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    finalizes++;
    comm->last = FINALIZE;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    (void)comm;
    destroys++;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    (void)comm;
    aborts++;
    return ncclSuccess;
}

/* --- tests --- */

/* A verdict that all ranks share, so that one that fails leaves none waiting. */
static void expect(bool is_right, const char *what) {
    int32_t mine = is_right ? 0 : 1, all[64] = {0};
    assert_true(world->size <= 64);
    assert_ok(qzo_comm_gather(world, all, &mine, sizeof mine));
    for (int i = 0; i < world->size; i++)
        if (all[i] != 0) fail_msg("rank %d: not %s (here: %s)", i, what, qzo_error_message());
}

static qzo_status open_group(qzo_comm **base, qzo_comm **comm, script what) {
    plan = what;
    inits = gathers = finalizes = destroys = aborts = 0;
    seconds_passed = 0;
    *base = *comm = NULL;
    assert_ok(qzo_comm_split(world, base, 0, world->rank));
    return qzo_cuda_comm_open(comm, *base);
}

static qzo_status gather_ranks(qzo_comm *comm) {
    int32_t mine = 100 + world->rank, all[64] = {0};
    qzo_status status = qzo_comm_gather(comm, all, &mine, sizeof mine);
    for (int i = 0; status == QZO_OK && i < world->size; i++)
        if (all[i] != 100 + i) status = qzo_fail(QZO_ERR_DESYNC, "rank %d arrived wrong", i);
    return status;
}

static void a_group_that_is_well_is_finalized(void **state) {
    (void)state;
    qzo_comm *base, *comm;
    expect(open_group(&base, &comm, ALL_WELL) == QZO_OK, "open");
    expect(gather_ranks(comm) == QZO_OK && gather_ranks(comm) == QZO_OK, "gathered");
    qzo_comm_close(comm);
    expect(gathers == 2 && finalizes == 1 && destroys == 1 && aborts == 0, "finalized");
}

/* Nobody keeps a communicator, nobody waits for a close, and the base is as it was. */
static void check_refused_open(script what, bool bad_rank_has_one, time_t longest) {
    qzo_comm *base, *comm;
    qzo_status status = open_group(&base, &comm, what);
    expect(status == QZO_ERR_ENVIRONMENT && comm == NULL, "refused on every rank");
    expect(finalizes == 0 && destroys == 0, "aborted instead of finalized");
    expect(aborts == (is_bad_rank() && !bad_rank_has_one ? 0 : 1), "aborted once");
    expect(seconds_passed <= longest + 2 * SECONDS_PER_LOOK, "over within the deadline");
    expect(gather_ranks(base) == QZO_OK, "of use without NCCL");
    qzo_comm_close(base);
}

static void an_open_that_one_rank_refuses_is_aborted_by_all(void **state) {
    (void)state;
    check_refused_open(INIT_REFUSED, false, ROUND);
    check_refused_open(INIT_REFUSED_OTHERS, false, ROUND);
    check_refused_open(INIT_ERROR_LATER, true, ROUND);
}

static void an_open_that_all_ranks_wait_in_ends(void **state) {
    (void)state;
    check_refused_open(INIT_STUCK, true, LONGEST_OPEN);
}

/* What comes after a failure is refused at once, also the wait of a close. */
static void check_failed_gather(script what) {
    qzo_comm *base, *comm;
    expect(open_group(&base, &comm, what) == QZO_OK, "open");
    expect(gather_ranks(comm) == QZO_ERR_ENVIRONMENT, "refused on every rank");
    expect(aborts == 1, "aborted at once");
    expect(seconds_passed <= LONGEST_GATHER + 2 * SECONDS_PER_LOOK, "over within the deadline");
    time_t before = seconds_passed;
    expect(gather_ranks(comm) == QZO_ERR_ENVIRONMENT && gathers == 1, "refused from then on");
    qzo_comm_close(comm);
    expect(finalizes == 0 && destroys == 0 && aborts == 1, "closed without another word");
    expect(seconds_passed <= before, "closed without a wait");
}

static void a_gather_that_fails_is_aborted(void **state) {
    (void)state;
    check_failed_gather(GATHER_ERROR);
    check_failed_gather(GATHER_STUCK);
}

static void a_close_does_not_wait_for_ever(void **state) {
    (void)state;
    qzo_comm *base, *comm;
    expect(open_group(&base, &comm, FINALIZE_STUCK) == QZO_OK, "open");
    qzo_comm_close(comm);
    expect(finalizes == 1 && destroys == 0 && aborts == 1, "aborted");
    expect(seconds_passed <= LONGEST_CLOSE + 2 * SECONDS_PER_LOOK, "over within the deadline");
}

static void a_group_opens_after_one_that_failed(void **state) {
    a_gather_that_fails_is_aborted(state);
    a_group_that_is_well_is_finalized(state);
}

static int setup(void **state) {
    return world_open(state) != 0 || qzo_comm_split(world, &wire, 0, world->rank) != QZO_OK;
}

static int teardown(void **state) {
    qzo_comm_close(wire);
    return world_close(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_that_is_well_is_finalized),
        cmocka_unit_test(an_open_that_one_rank_refuses_is_aborted_by_all),
        cmocka_unit_test(an_open_that_all_ranks_wait_in_ends),
        cmocka_unit_test(a_gather_that_fails_is_aborted),
        cmocka_unit_test(a_close_does_not_wait_for_ever),
        cmocka_unit_test(a_group_opens_after_one_that_failed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
