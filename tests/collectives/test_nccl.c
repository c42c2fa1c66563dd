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
#include "collectives/nccl/nccl.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { COUNT = 50000, VICTIM = 1 };

/* ---- GPU memory from the host's side ----------------------------------------------------------------------------- */

static const struct cuda_library *cuda(void) { return &collectives_nccl_libraries(NULL)->cuda; }

/* As a program sleeps in cudaStreamSynchronize, which looks at nothing else. */
static cuda_error sleep_on(cuda_stream stream)
{
    cuda_event event;
    cuda_error error;
    CHECK(cuda()->event_new(&event, CUDA_EVENT_NO_TIMING) == CUDA_SUCCESS_);
    error = cuda()->event_record(event, stream);
    if (error == CUDA_SUCCESS_)
        while ((error = cuda()->event_query(event)) == CUDA_NOT_READY)
            base_sleep_ns(10000);
    cuda()->event_free(event);
    return error;
}

static void copy_on(cuda_stream stream, void *to, const void *from, size_t nbytes)
{
    if (!nbytes)
        return;
    CHECK(cuda()->copy(to, from, nbytes, CUDA_COPY_DEFAULT, stream) == CUDA_SUCCESS_);
    CHECK(sleep_on(stream) == CUDA_SUCCESS_);
}

/* On the default stream of the memory's device, which need not be the thread's. */
static void copy(void *to, const void *from, size_t nbytes)
{
    cuda_pointer there = {.type = CUDA_MEMORY_UNREGISTERED};
    int before;
    CHECK(cuda()->get_device(&before) == CUDA_SUCCESS_);
    CHECK(cuda()->pointer(&there, to) == CUDA_SUCCESS_);
    if (there.type == CUDA_MEMORY_UNREGISTERED)
        CHECK(cuda()->pointer(&there, from) == CUDA_SUCCESS_);
    cuda()->set_device(there.device);
    copy_on(NULL, to, from, nbytes);
    cuda()->set_device(before);
}

static cadre_comm *join(const cadre_oob *oob, double timeout_s)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.backend = "nccl", .timeout_s = timeout_s};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    return comm;
}

/* It is short of time from now on, but was not while it was made, which takes long on a busy machine. */
static void hurry(cadre_comm *comm, double timeout_s)
{
    comm->timeout_s = timeout_s;
    ((nccl *)comm->self)->host->timeout_s = timeout_s;
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
    contract_traits.hurry = hurry;
    unsetenv("CADRE_DOUBLE"); /* a run that failed has left it */
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

/* The communicator waits for what the caller's stream has not done yet, and that stream for the communicator; the host
 * for neither. The double sees it when one of them does not. */
static void streams(const cadre_oob *oob, void *user)
{
    enum { BIG = 64 << 20 };
    cadre_comm *comm = join(oob, 60);
    cadre_request *request = NULL;
    void *memory;
    cuda_stream stream;
    unsigned char first[4];
    (void)user;
    CHECK(cadre_comm_alloc(comm, BIG, &memory) == CADRE_OK);
    CHECK(cuda()->set_device(cadre_comm_device(comm)) == CUDA_SUCCESS_);
    CHECK(cuda()->stream_new(&stream, CUDA_STREAM_NON_BLOCKING, -5) == CUDA_SUCCESS_);
    char *last = (char *)memory + BIG - 4;
    for (int own = 0; own < 2; own++) {
        cuda_stream on = own ? stream : NULL;
        cadre_comm_set_stream(comm, on);
        CHECK(cuda()->fill(memory, own + 1, BIG, on) == CUDA_SUCCESS_);
        CHECK(cadre_all_reduce(comm, last, 1, CADRE_INT32, CADRE_SUM) == CADRE_OK);
        CHECK(cadre_all_reduce(comm, last, 1, CADRE_INT32, CADRE_SUM) == CADRE_OK);
        copy_on(on, first, last, 4);
        CHECK(first[0] == 4 * (own + 1));
        CHECK(cuda()->fill(memory, own + 5, BIG, on) == CUDA_SUCCESS_); /* and written again */
        CHECK(sleep_on(on) == CUDA_SUCCESS_);
    }
    /* A request waits for the stream that was set when it was started; the one set at its wait waits for it. */
    CHECK(cuda()->fill(memory, 3, BIG, stream) == CUDA_SUCCESS_);
    CHECK(cadre_all_reduce_start(comm, last, 1, CADRE_INT32, CADRE_SUM, &request) == CADRE_OK);
    cadre_comm_set_stream(comm, NULL);
    CHECK(cadre_wait(comm, &request) == CADRE_OK);
    copy(first, last, 4);
    CHECK(first[0] == 6);
    /* The host knows that it is complete: then any stream may have it, and memory may go. */
    CHECK(cadre_all_reduce(comm, last, 1, CADRE_INT32, CADRE_SUM) == CADRE_OK);
    CHECK(cadre_comm_synchronize(comm) == CADRE_OK);
    copy_on(stream, first, last, 4);
    CHECK(first[0] == 12);
    CHECK(cadre_all_reduce(comm, last, 1, CADRE_INT32, CADRE_SUM) == CADRE_OK);
    CHECK(cadre_barrier(comm) == CADRE_OK);
    copy_on(stream, first, last, 4);
    CHECK(first[0] == 24);
    CHECK(cadre_all_reduce(comm, memory, BIG / 4, CADRE_INT32, CADRE_MAX) == CADRE_OK);
    cadre_comm_dealloc(comm, memory); /* after it */
    cuda()->stream_free(stream);
    cadre_comm_free(comm);
}

/* Whoever puts work on another stream has to order it, and the double sees when it is not. The signal that `way` ended
 * by, or its answer. */
static int misordered(int (*way)(char *memory, cuda_stream stream))
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        void *memory;
        cuda_stream stream;
        CHECK(freopen("/dev/null", "w", stderr));
        CHECK(cuda()->malloc(&memory, 8192) == CUDA_SUCCESS_);
        CHECK(cuda()->stream_new(&stream, CUDA_STREAM_NON_BLOCKING, -5) == CUDA_SUCCESS_);
        _exit(way(memory, stream));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static int read_early(char *memory, cuda_stream stream)
{
    char host[16];
    cuda()->fill(memory, 1, 4096, stream);
    cuda()->copy(host, memory + 4090, 16, CUDA_COPY_DEFAULT, NULL);
    return 0;
}

static int write_early(char *memory, cuda_stream stream)
{
    static char host[4096];
    cuda()->copy(host, memory, 4096, CUDA_COPY_DEFAULT, stream);
    cuda()->fill(memory, 1, 4096, NULL);
    return 0;
}

static int free_early(char *memory, cuda_stream stream)
{
    cuda()->fill(memory, 1, 4096, stream);
    cuda()->free(memory);
    return 0;
}

static int wait_for_another(char *memory, cuda_stream stream)
{
    cuda_event event;
    cuda()->event_new(&event, CUDA_EVENT_NO_TIMING);
    cuda()->event_record(event, stream); /* before the fill */
    cuda()->fill(memory, 1, 4096, stream);
    cuda()->stream_wait(NULL, event, 0);
    cuda()->fill(memory, 2, 4096, NULL);
    return 0;
}

static int in_order(char *memory, cuda_stream stream)
{
    char host[16] = {0};
    cuda_event event;
    cuda()->fill(memory, 1, 4096, NULL);
    cuda()->fill(memory + 4096, 1, 4096, stream); /* other bytes */
    cuda()->event_new(&event, CUDA_EVENT_NO_TIMING);
    cuda()->event_record(event, NULL);
    cuda()->stream_wait(stream, event, 0);
    cuda()->copy(host, memory + 4090, 16, CUDA_COPY_DEFAULT, stream);
    CHECK(sleep_on(stream) == CUDA_SUCCESS_ && host[0] == 1 && host[15] == 1);
    cuda()->fill(memory, 2, 8192, NULL);
    CHECK(sleep_on(NULL) == CUDA_SUCCESS_);
    return cuda()->free(memory) == CUDA_SUCCESS_ ? 0 : 1;
}

static void test_order(void **state)
{
    (void)state;
    assert_int_equal(misordered(read_early), SIGABRT);
    assert_int_equal(misordered(write_early), SIGABRT);
    assert_int_equal(misordered(free_early), SIGABRT);
    assert_int_equal(misordered(wait_for_another), SIGABRT);
    assert_int_equal(misordered(in_order), 0);
}

static void test_buffers(void **state)
{
    (void)state;
    run(PROCESSES, 2, -1, NULL, buffers);
    run(PROCESSES, 2, -1, NULL, streams);
    run(PROCESSES, 2, -1, "delay:2@1,delay:4,delay:6@0,delay:7@1,delay:8@1", streams);
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

/* The third all-reduce goes wrong; the ranks have to come to `status`, the victim perhaps to another, with `words`. */
static struct {
    int status, of_victim;
    const char *words, *of_victims;
    double timeout_s, within_s;
    enum { SYNCHRONIZED, REQUESTS, ASLEEP, WAYS } way; /* how a rank hears of it */
} wanted;

static int reduce(cadre_comm *comm, float *data)
{
    cadre_request *request = NULL;
    bool done = false;
    int status;
    if (wanted.way != REQUESTS) {
        status = cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM);
        if (!status && wanted.way == SYNCHRONIZED)
            status = cadre_comm_synchronize(comm);
        if (!status && wanted.way == ASLEEP)
            sleep_on(NULL); /* with nobody to look after the communicator but its own thread */
        return status;
    }
    status = cadre_all_reduce_start(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM, &request);
    while (!status && !done)
        status = cadre_test(comm, &request, &done);
    return status;
}

static void struck(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, 60);
    float *data = numbers(comm, 1), sum = 1;
    int status = CADRE_OK;
    (void)user;
    hurry(comm, wanted.timeout_s);
    CHECK(cuda()->set_device(cadre_comm_device(comm)) == CUDA_SUCCESS_); /* as a program does that puts work there */
    cadre_comm_label(comm, "bucket 7");
    for (int i = 0; i < 5 && !status; i++) {
        double begun = base_now();
        status = reduce(comm, data);
        sum *= (float)oob->world;
        CHECK(base_now() - begun < wanted.within_s);
    }
    CHECK(status == (oob->rank == VICTIM ? wanted.of_victim : wanted.status));
    if (status) {
        CHECK(strstr(cadre_error_message(), oob->rank == VICTIM ? wanted.of_victims : wanted.words));
        CHECK(strstr(cadre_error_message(), "bucket 7"));
        CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM) == CADRE_ESTATE);
        CHECK(cadre_barrier(comm) == CADRE_ESTATE && cadre_comm_synchronize(comm) == CADRE_ESTATE);
    } else {
        CHECK(all_are(data, sum));
    }
    leave(comm, data); /* ends nothing twice, or the double says so */
}

static void strike(const char *faults, int victim)
{
    for (int way = 0; way < WAYS; way++) {
        wanted.way = way;
        run(PROCESSES, 2, victim, faults, struck);
    }
    run(PROCESSES, 3, victim, faults, struck);
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
         wanted.of_victims = "an illegal memory access");
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
    int status = cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN);
    CHECK((status ? status : cadre_comm_synchronize(comm)) == CADRE_ECANCELED);
    CHECK(strstr(cadre_error_message(), "cancelled by cadre_comm_abort"));
    CHECK(base_now() - begun < 3);
    if (oob->rank == 0) {
        pthread_join(thread, NULL);
        cadre_comm_abort(comm); /* once more does no harm */
    }
    leave(comm, data);
}

/* Work in host memory goes on beside a GPU that hangs, until its deadline. */
static void beside(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, 60);
    float *data = numbers(comm, 1), host = 1;
    int status;
    double begun = base_now();
    (void)user;
    comm->timeout_s = 0.7; /* not the companion's */
    cadre_comm_label(comm, "bucket 7");
    CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN) == CADRE_OK);
    cadre_comm_label(comm, NULL);
    do
        status = cadre_all_reduce(comm, &host, 1, CADRE_FLOAT32, CADRE_MAX);
    while (!status && base_now() - begun < 10);
    CHECK(status == CADRE_ETIMEDOUT && base_now() - begun > 0.6);
    CHECK(strstr(cadre_error_message(), "bucket 7: deadline passed") &&
          strstr(cadre_error_message(), "all ranks have called it"));
    leave(comm, data);
}

/* A communicator is freed while its GPU hangs: that is over soon, and memory is not given back under it. */
static void left_hanging(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, 60);
    float *data = numbers(comm, 1);
    double begun = base_now();
    (void)oob, (void)user;
    CHECK(cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_MEAN) == CADRE_OK);
    cadre_comm_free(comm); /* and its memory with it */
    CHECK(base_now() - begun < 8);
}

static void test_abort(void **state)
{
    (void)state;
    run(PROCESSES, 2, -1, "hang:1@1", aborted);
    run(PROCESSES, 2, -1, "hang:1@1", beside);
    run(PROCESSES, 2, -1, "hang:1", left_hanging);
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

int main(int argc, char **argv)
{
    int failed = 0;
    /* Those with threads last: what they leave open cannot be forked. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract_processes),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_order),
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
    if (argc == 1)
        return cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 1; i < argc; i++) { /* names, or patterns as "*error" */
        cmocka_set_test_filter(argv[i]);
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
