/*
 * The nccl backend: the contract, and all that goes wrong around NCCL.
 *
 * In CI it runs on a double of NCCL and CUDA (nccl_double.c), which CADRE_NCCL and CADRE_CUDART name. Started without
 * them it takes the machine's own libraries and needs a GPU: CADRE_TEST_RANKS=2 build/tests/test_collectives_nccl runs
 * the contract with one rank, then with two, on a GPU each or, where there are too few, on one (correctness only: NCCL
 * 2.30 is told to allow it, earlier ones are made to believe in a host for each rank and talk over sockets).
 */
#include "contract.h"

#include "base/clock.h"
#include "base/log.h"
#include "collectives/nccl/library.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { COUNT = 50000, VICTIM = 1 };

/* ---- GPU memory from the host's side ----------------------------------------------------------------------------- */

static const struct cuda_library *cuda(void) { return &collectives_nccl_libraries(NULL)->cuda; }

static void copy(void *to, const void *from, size_t nbytes)
{
    cuda_event event;
    cuda_error error;
    if (!nbytes)
        return;
    CHECK(cuda()->event_new(&event, CUDA_EVENT_NO_TIMING) == CUDA_SUCCESS_);
    CHECK(cuda()->copy(to, from, nbytes, CUDA_COPY_DEFAULT, NULL) == CUDA_SUCCESS_);
    CHECK(cuda()->event_record(event, NULL) == CUDA_SUCCESS_);
    while ((error = cuda()->event_query(event)) == CUDA_NOT_READY)
        base_sleep_ns(10000);
    CHECK(error == CUDA_SUCCESS_);
    cuda()->event_free(event);
}

static cadre_comm *join(const cadre_oob *oob, double timeout_s)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.backend = "nccl", .timeout_s = timeout_s};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    return comm;
}

static float *numbers(cadre_comm *comm, float value)
{
    void *memory;
    float host[COUNT];
    CHECK(cadre_comm_alloc(comm, sizeof host, &memory) == CADRE_OK);
    for (int i = 0; i < COUNT; i++)
        host[i] = value;
    copy(memory, host, sizeof host);
    return memory;
}

static bool all_are(const float *memory, float value)
{
    float host[COUNT];
    copy(host, memory, sizeof host);
    for (int i = 0; i < COUNT; i++)
        if (host[i] != value)
            return false;
    return true;
}

static void leave(cadre_comm *comm, void *memory)
{
    cadre_comm_dealloc(comm, memory);
    cadre_comm_free(comm);
}

static void run(enum ranks_kind kind, int world, int victim, const char *faults, rank_fn *fn)
{
    char what[128];
    snprintf(what, sizeof what, "nccl, %d ranks, %s", world, faults ? faults : "no fault");
    watchdog(what, 280);
    contract_traits.copy = copy;
    if (faults)
        setenv("CADRE_DOUBLE", faults, 1);
    ranks_run(kind, world, victim, fn, NULL);
    unsetenv("CADRE_DOUBLE");
}

/* ---- the contract ------------------------------------------------------------------------------------------------ */

static void contract(const cadre_oob *oob, void *user)
{
    (void)user;
    contract_results(oob, "nccl");
    if (oob->world < 4 || !getenv("CADRE_NCCL")) /* they wait for deadlines; four ranks say nothing new in CI */
        contract_failures(oob, "nccl");
}

static void test_contract_processes(void **state)
{
    (void)state;
    run(PROCESSES, 1, -1, NULL, contract);
    run(PROCESSES, 2, -1, NULL, contract);
    run(PROCESSES, 4, -1, NULL, contract);
}

/* ---- choice ------------------------------------------------------------------------------------------------------ */

static void chosen(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = NULL;
    (void)user;
    CHECK(cadre_comm_new(oob, NULL, &comm) == CADRE_OK);
    CHECK(strcmp(cadre_comm_backend(comm), "shm") == 0 && cadre_comm_device(comm) == -1);
    cadre_comm_set_stream(comm, NULL);
    cadre_comm_free(comm);
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.device = "cuda"}, &comm) == CADRE_OK);
    CHECK(strcmp(cadre_comm_backend(comm), "nccl") == 0 && cadre_comm_device(comm) == oob->rank);
    cadre_comm_free(comm);
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.device = oob->rank ? "cuda:3" : "cuda:5"}, &comm) == CADRE_OK);
    CHECK(cadre_comm_device(comm) == (oob->rank ? 3 : 5));
    cadre_comm_free(comm);
    comm = NULL;
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.device = "cuda:8"}, &comm) == CADRE_EINVAL && !comm);
    CHECK(strstr(cadre_error_message(), "cuda:0 to cuda:7"));
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.device = "gpu"}, &comm) == CADRE_EINVAL && !comm);
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.device = "cuda", .backend = "shm"}, &comm) == CADRE_ENOTSUP);
    CHECK(strstr(cadre_error_message(), "works on host memory") && !comm);
}

static void test_choice(void **state)
{
    (void)state;
    run(PROCESSES, 2, -1, NULL, chosen);
}

static void refused(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = NULL;
    (void)user;
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.backend = "nccl"}, &comm) == CADRE_ENOTSUP && !comm);
    CHECK(strstr(cadre_error_message(), getenv("CADRE_TEST_WORDS")));
    CHECK(!strchr(cadre_error_message(), '\n'));
    CHECK(cadre_comm_new(oob, NULL, &comm) == CADRE_OK); /* which hurts nobody */
    cadre_comm_free(comm);
}

static void shared_gpu(const cadre_oob *oob, void *user)
{
    (void)user;
    setenv("NCCL_HOSTID", oob->rank ? "b" : "a", 1);
    cadre_comm *comm = join(oob, 60);
    float *data = numbers(comm, 1);
    CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM) == CADRE_OK && all_are(data, 2));
    leave(comm, data);
}

static void refuse(const char *variable, const char *value, const char *words)
{
    const char *before = getenv(variable);
    char *kept = before ? strdup(before) : NULL;
    setenv("CADRE_TEST_WORDS", words, 1);
    setenv(variable, value, 1);
    run(PROCESSES, 2, -1, NULL, refused);
    if (kept)
        setenv(variable, kept, 1);
    else
        unsetenv(variable);
    free(kept);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("CADRE_NCCL", "/nowhere/libnccl.so.2", "/nowhere/libnccl.so.2: cannot open shared object file");
    refuse("CADRE_CUDART", "/nowhere/libcudart.so.12", "/nowhere/libcudart.so.12: cannot open shared object file");
    refuse("CADRE_DOUBLE_DRIVER", "0", "no NVIDIA driver");
    refuse("CADRE_DOUBLE_DEVICES", "0", "no GPU can be used: no CUDA-capable device is detected");
    refuse("CADRE_DOUBLE_VERSION", "21212", "NCCL is too old: 2.14 is needed, its version number is 21212");
    refuse("CADRE_DOUBLE_DEVICES", "1", "ranks 0 and 1 are both on GPU 0000:00:00.0");
    setenv("CADRE_DOUBLE_DEVICES", "1", 1);
    run(PROCESSES, 2, -1, NULL, shared_gpu);
    unsetenv("CADRE_DOUBLE_DEVICES");
}

/* ---- buffers and streams ----------------------------------------------------------------------------------------- */

static void buffers(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, 60);
    float *data = numbers(comm, 1), host[4] = {0};
    (void)user;
    CHECK(cadre_reduce_scatter(comm, data, host, 4, CADRE_FLOAT32, CADRE_SUM) == CADRE_EINVAL);
    CHECK(strstr(cadre_error_message(), "not in memory of the same device"));
    CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN) == CADRE_OK); /* it is whole */
    /* Requests on both memories in one queue, waited for from the end. */
    cadre_request *request[4];
    host[0] = 1;
    for (int i = 0; i < 4; i++)
        CHECK(cadre_all_reduce_start(comm, i % 2 ? (void *)host : data, i % 2 ? 4 : COUNT, CADRE_FLOAT32, CADRE_SUM,
                                     &request[i]) == CADRE_OK);
    for (int i = 3; i >= 0; i--)
        CHECK(cadre_wait(comm, &request[i]) == CADRE_OK);
    CHECK(all_are(data, 4) && host[0] == 4);
    leave(comm, data);
}

/* What the caller's stream has not done yet is waited for. */
static void streams(const cadre_oob *oob, void *user)
{
    enum { BIG = 64 << 20 };
    cadre_comm *comm = join(oob, 60);
    void *memory;
    cuda_stream stream;
    unsigned char first[4];
    (void)user;
    CHECK(cadre_comm_alloc(comm, BIG, &memory) == CADRE_OK);
    CHECK(cuda()->stream_new(&stream, CUDA_STREAM_NON_BLOCKING, -5) == CUDA_SUCCESS_);
    for (int own = 0; own < 2; own++) {
        cadre_comm_set_stream(comm, own ? stream : NULL);
        CHECK(cuda()->fill(memory, own + 1, BIG, own ? stream : NULL) == CUDA_SUCCESS_);
        CHECK(cadre_all_reduce(comm, (char *)memory + BIG - 4, 1, CADRE_INT32, CADRE_MAX) == CADRE_OK);
        copy(first, (char *)memory + BIG - 4, 4);
        CHECK(first[0] == own + 1);
    }
    cuda()->stream_free(stream);
    leave(comm, memory);
}

static void test_buffers(void **state)
{
    (void)state;
    run(PROCESSES, 2, -1, NULL, buffers);
    run(PROCESSES, 2, -1, NULL, streams);
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

/* The third all-reduce goes wrong; the ranks have to come to `status`, the victim perhaps to another, with `words`. */
static struct {
    int status, of_victim;
    const char *words, *of_victims;
    double timeout_s, within_s;
    bool requests;
} wanted;

static int reduce(cadre_comm *comm, float *data)
{
    cadre_request *request = NULL;
    if (!wanted.requests)
        return cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN);
    int status = cadre_all_reduce_start(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN, &request);
    bool done = false;
    while (!status && !done)
        status = cadre_test(comm, &request, &done);
    return status;
}

static void struck(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, wanted.timeout_s);
    float *data = numbers(comm, 1);
    int status = CADRE_OK;
    double begun = 0;
    (void)user;
    cadre_comm_label(comm, "bucket 7");
    for (int i = 0; i < 5 && !status; i++) {
        begun = base_now();
        status = reduce(comm, data);
    }
    CHECK(status == (oob->rank == VICTIM ? wanted.of_victim : wanted.status));
    CHECK(base_now() - begun < wanted.within_s);
    if (status) {
        CHECK(strstr(cadre_error_message(), oob->rank == VICTIM ? wanted.of_victims : wanted.words));
        CHECK(strstr(cadre_error_message(), "bucket 7"));
        CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN) == CADRE_ESTATE);
        CHECK(cadre_barrier(comm) == CADRE_ESTATE);
    }
    leave(comm, data); /* ends nothing twice, or the double says so */
}

static void strike(const char *faults, int victim)
{
    for (int requests = 0; requests < 2; requests++) {
        wanted.requests = requests;
        run(PROCESSES, 2, victim, faults, struck);
        run(PROCESSES, 3, victim, faults, struck);
    }
}

#define WANT(...)                                                                                                      \
    do {                                                                                                               \
        memset(&wanted, 0, sizeof wanted);                                                                             \
        wanted.timeout_s = 60;                                                                                         \
        wanted.within_s = 10;                                                                                          \
        __VA_ARGS__;                                                                                                   \
    } while (0)

static void test_delay(void **state)
{
    (void)state;
    WANT((void)0);
    strike("delay:3@1", -1);
}

static void test_error(void **state)
{
    (void)state;
    WANT(wanted.status = wanted.of_victim = CADRE_ESYSTEM, wanted.words = "rank 1 failed first",
         wanted.of_victims = "NCCL: internal error");
    strike("error:3@1", -1);
}

static void test_async_error(void **state)
{
    (void)state;
    WANT(wanted.status = wanted.of_victim = CADRE_EPEER, wanted.words = "rank 1 failed first",
         wanted.of_victims = "NCCL: remote process exited");
    strike("async:3@1", -1);
}

static void test_cuda_error(void **state)
{
    (void)state;
    WANT(wanted.status = wanted.of_victim = CADRE_ESYSTEM, wanted.words = "rank 1 failed first",
         wanted.of_victims = "cudaEventQuery: an illegal memory access");
    strike("fault:3@1", -1);
}

static void test_deadline(void **state)
{
    (void)state;
    WANT(wanted.status = wanted.of_victim = CADRE_ETIMEDOUT, wanted.words = "the GPUs: all ranks have called it",
         wanted.of_victims = "the GPUs: all ranks have called it", wanted.timeout_s = 0.7);
    strike("hang:3@1", -1);
}

static void test_deaf(void **state)
{
    (void)state;
    WANT(wanted.status = wanted.of_victim = CADRE_ETIMEDOUT, wanted.words = "the GPUs: all ranks have called it",
         wanted.of_victims = "the GPUs: all ranks have called it", wanted.timeout_s = 0.7);
    run(PROCESSES, 2, -1, "deaf:3@1", struck);
}

static void test_death(void **state)
{
    (void)state;
    WANT(wanted.status = CADRE_EPEER, wanted.words = "rank 1 (pid ", wanted.within_s = 2);
    strike("die:3@1", VICTIM);
}

static void never_connected(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = NULL;
    double begun = base_now();
    (void)user;
    CHECK(cadre_comm_new(oob, &(cadre_comm_options){.backend = "nccl", .timeout_s = wanted.timeout_s}, &comm) ==
          wanted.status);
    CHECK(!comm && strstr(cadre_error_message(), wanted.words));
    CHECK(base_now() - begun < wanted.within_s);
}

static void test_connecting(void **state)
{
    (void)state;
    WANT(wanted.status = CADRE_ETIMEDOUT, wanted.words = "connecting", wanted.timeout_s = 1);
    run(PROCESSES, 2, -1, "init_hang:1@1", never_connected);
    WANT(wanted.status = CADRE_ESYSTEM, wanted.words = "rank 1 failed first");
    wanted.words = "NCCL: internal error";
    run(PROCESSES, 3, -1, "init_error:1@1", never_connected);
}

static void short_of_memory(const cadre_oob *oob, void *user)
{
    (void)user;
    if (oob->rank != VICTIM)
        unsetenv("CADRE_DOUBLE");
    cadre_comm *comm = join(oob, 60);
    void *memory = NULL;
    float *data = numbers(comm, 1);
    CHECK(cadre_comm_alloc(comm, 1 << 20, &memory) == CADRE_ENOMEM && !memory);
    CHECK(strstr(cadre_error_message(), "rank 1: 1048576 bytes of GPU memory: out of memory"));
    CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM) == CADRE_OK && all_are(data, 2));
    leave(comm, data);
}

static void test_memory(void **state)
{
    (void)state;
    run(PROCESSES, 2, -1, "memory:2", short_of_memory);
}

/* ---- abort ------------------------------------------------------------------------------------------------------- */

static void *abort_soon(void *comm)
{
    base_sleep_ns(100000000);
    cadre_comm_abort(comm);
    return NULL;
}

static void aborted(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, 60);
    float *data = numbers(comm, 1);
    pthread_t thread;
    double begun = base_now();
    (void)user;
    if (oob->rank == 0)
        CHECK(pthread_create(&thread, NULL, abort_soon, comm) == 0);
    CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN) == CADRE_ECANCELED);
    CHECK(strstr(cadre_error_message(), "cancelled by cadre_comm_abort on rank 0"));
    CHECK(base_now() - begun < 3);
    if (oob->rank == 0) {
        pthread_join(thread, NULL);
        cadre_comm_abort(comm); /* once more does no harm */
    }
    leave(comm, data);
}

static void test_abort(void **state)
{
    (void)state;
    run(PROCESSES, 2, -1, "hang:1@1", aborted);
}

static void test_threads(void **state)
{
    (void)state;
    run(THREADS, 2, -1, NULL, contract);
    run(THREADS, 2, -1, "hang:1@1", aborted);
}

/* ---- the machine's own libraries ----------------------------------------------------------------------------------
 */

static void real(const cadre_oob *oob, void *user)
{
    char rank[16];
    (void)user;
    snprintf(rank, sizeof rank, "rank%d", oob->rank);
    if (getenv("CADRE_TEST_SHARED")) {
        setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 0);
        setenv("NCCL_NVLS_ENABLE", "0", 0);
        if (!getenv("CADRE_TEST_NEW_NCCL")) {
            setenv("NCCL_HOSTID", rank, 0);
            setenv("NCCL_SOCKET_IFNAME", "lo", 0);
            setenv("NCCL_P2P_DISABLE", "1", 0);
            setenv("NCCL_SHM_DISABLE", "1", 0);
            setenv("NCCL_IB_DISABLE", "1", 0);
            setenv("NCCL_MAX_CTAS", "2", 0);
        }
    }
    contract(oob, NULL);
}

/* What there is, asked in a process of its own: one that has opened CUDA may not fork ranks. */
static void look(const cadre_oob *oob, void *user)
{
    int *found = user;
    char why[COLLECTIVES_WHY];
    const nccl_libraries *libraries = collectives_nccl_libraries(why);
    (void)oob;
    printf("%s\n", why);
    found[0] = libraries ? libraries->devices : 0;
    found[1] = libraries ? libraries->nccl_version : 0;
}

static void test_real(void **state)
{
    const char *text = getenv("CADRE_TEST_RANKS");
    int *found = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
        ranks = text ? atoi(text) : 1;
    (void)state;
    assert_true(found != MAP_FAILED);
    watchdog("looking for GPUs", 100);
    ranks_run(PROCESSES, 1, -1, look, found);
    if (!found[0])
        skip();
    contract_traits.within_rounding = true;
    run(PROCESSES, 1, -1, NULL, real);
    if (found[0] < ranks)
        setenv("CADRE_TEST_SHARED", "1", 1);
    if (found[1] >= NCCL_SHARED_GPU)
        setenv("CADRE_TEST_NEW_NCCL", "1", 1);
    if (ranks > 1)
        run(PROCESSES, ranks, -1, NULL, real);
    munmap(found, 4096);
}

int main(void)
{
    /* Those with threads last: what they leave open cannot be forked. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract_processes),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_delay),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_async_error),
        cmocka_unit_test(test_cuda_error),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deaf),
        cmocka_unit_test(test_death),
        cmocka_unit_test(test_connecting),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_threads),
    };
    const struct CMUnitTest with_gpu[] = {cmocka_unit_test(test_real)};
    if (!getenv("CADRE_NCCL"))
        return cmocka_run_group_tests(with_gpu, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
