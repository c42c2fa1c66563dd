#include "contract.h"

#include "base/clock.h"
#include "collectives/comm.h"
#include "reference.h"

#include <pthread.h>
#include <string.h>

struct contract_traits contract_traits;

enum placement { PLAIN, REGISTERED, MIXED, PLACEMENTS };

static cadre_comm *join(const cadre_oob *oob, const char *backend, double timeout_s)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = backend, .timeout_s = timeout_s};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    CHECK(strcmp(cadre_comm_backend(comm), backend) == 0);
    CHECK(cadre_comm_rank(comm) == oob->rank && cadre_comm_world(comm) == oob->world);
    return comm;
}

/* The out-of-band barrier: tests must not depend on the communicator that they break. */
static void meet(const cadre_oob *oob)
{
    char mine = 0, all[64];
    if (oob->world > 1)
        CHECK(oob->all_gather(oob->user, &mine, all, 1, 60) == CADRE_OK);
}

/* Room for `nbytes` off a cache line by `shift`, registered or not. */
static char *place(cadre_comm *comm, enum placement where, size_t nbytes, size_t shift, void **to_free)
{
    bool registered = where == REGISTERED || (where == MIXED && cadre_comm_rank(comm) % 2 == 0);
    if (where != PLAIN) /* collective, so all allocate even if only some use it */
        CHECK(cadre_comm_alloc(comm, nbytes + 64, to_free) == CADRE_OK);
    if (registered)
        return (char *)*to_free + shift;
    if (where == MIXED)
        cadre_comm_dealloc(comm, *to_free);
    *to_free = malloc(nbytes + 64);
    CHECK(*to_free != NULL);
    return (char *)*to_free + shift;
}

static void unplace(cadre_comm *comm, enum placement where, void *memory)
{
    if (where == REGISTERED || (where == MIXED && cadre_comm_rank(comm) % 2 == 0))
        cadre_comm_dealloc(comm, memory);
    else
        free(memory);
}

/* Registered memory may be a GPU's. */
static void copy(enum placement where, void *to, const void *from, size_t nbytes)
{
    if (where == REGISTERED && contract_traits.copy)
        contract_traits.copy(to, from, nbytes);
    else
        memcpy(to, from, nbytes);
}

static void put_input(enum placement where, void *memory, int rank, size_t first, size_t count, cadre_dtype dtype)
{
    size_t nbytes = count * cadre_dtype_size(dtype);
    void *host = malloc(nbytes + 1);
    reference_input(host, rank, first, count, dtype);
    copy(where, memory, host, nbytes);
    free(host);
}

static void report_difference(const void *got, const void *wanted, size_t nbytes)
{
    size_t at = 0;
    while (((const char *)got)[at] == ((const char *)wanted)[at])
        at++;
    fprintf(stderr, "results differ from byte %zu of %zu on\n", at, nbytes);
    CHECK(!"equal results");
}

/* What lies in `memory` is bit for bit what is wanted; a reduction of reals may be within rounding only. */
static void check_result(enum placement where, const void *memory, const void *wanted, size_t count, cadre_dtype dtype,
                         bool reduced, cadre_op op)
{
    size_t nbytes = count * cadre_dtype_size(dtype);
    void *got = malloc(nbytes + 1);
    copy(where, got, memory, nbytes);
    bool rounding =
        reduced && ((where == REGISTERED && contract_traits.within_rounding) || contract_traits.another_order);
    if (nbytes && !(rounding ? reference_close(got, wanted, count, dtype, op) : memcmp(got, wanted, nbytes) == 0))
        report_difference(got, wanted, nbytes);
    free(got);
}

static void one_all_reduce(cadre_comm *comm, enum placement where, size_t count, cadre_dtype dtype, cadre_op op)
{
    size_t size = cadre_dtype_size(dtype), nbytes = count * size;
    void *memory, *wanted = malloc(nbytes + 1);
    char *data = place(comm, where, nbytes, size, &memory);
    put_input(where, data, cadre_comm_rank(comm), 0, count, dtype);
    reference_reduced(wanted, cadre_comm_world(comm), 0, count, dtype, op);
    CHECK(cadre_all_reduce(comm, data, count, dtype, op) == CADRE_OK);
    check_result(where, data, wanted, count, dtype, true, op);
    unplace(comm, where, memory);
    free(wanted);
}

static void one_reduce_scatter(cadre_comm *comm, enum placement where, size_t count, cadre_dtype dtype, bool in_place)
{
    size_t size = cadre_dtype_size(dtype), nbytes = count * size;
    int rank = cadre_comm_rank(comm), world = cadre_comm_world(comm);
    void *memory, *other, *wanted = malloc(nbytes * (size_t)world + 1);
    char *data = place(comm, where, nbytes * (size_t)world, size, &memory);
    char *apart = place(comm, where, nbytes, 0, &other);
    char *output = in_place ? data + (size_t)rank * nbytes : apart;
    put_input(where, data, rank, 0, count * (size_t)world, dtype);
    reference_reduced(wanted, world, count * (size_t)rank, count, dtype, CADRE_SUM);
    CHECK(cadre_reduce_scatter(comm, data, output, count, dtype, CADRE_SUM) == CADRE_OK);
    check_result(where, output, wanted, count, dtype, true, CADRE_SUM);
    if (!in_place) {
        reference_input(wanted, rank, 0, count * (size_t)world, dtype);
        check_result(where, data, wanted, count * (size_t)world, dtype, false, CADRE_SUM);
    }
    unplace(comm, where, memory);
    unplace(comm, where, other);
    free(wanted);
}

static void one_all_gather(cadre_comm *comm, enum placement where, size_t count, cadre_dtype dtype, bool in_place)
{
    size_t size = cadre_dtype_size(dtype), nbytes = count * size;
    int rank = cadre_comm_rank(comm), world = cadre_comm_world(comm);
    void *memory, *other, *wanted = malloc(nbytes + 1);
    char *data = place(comm, where, nbytes * (size_t)world, size, &memory);
    char *apart = place(comm, where, nbytes * (size_t)world, 0, &other);
    char *output = in_place ? data : apart, *input = in_place ? data + (size_t)rank * nbytes : data;
    put_input(where, input, rank, 0, count, dtype);
    CHECK(cadre_all_gather(comm, input, output, count, dtype) == CADRE_OK);
    for (int r = 0; r < world; r++) {
        reference_input(wanted, r, 0, count, dtype);
        check_result(where, output + (size_t)r * nbytes, wanted, count, dtype, false, CADRE_SUM);
    }
    unplace(comm, where, memory);
    unplace(comm, where, other);
    free(wanted);
}

static void one_broadcast(cadre_comm *comm, enum placement where, size_t count, cadre_dtype dtype, int root)
{
    size_t size = cadre_dtype_size(dtype), nbytes = count * size;
    void *memory, *wanted = malloc(nbytes + 1);
    char *data = place(comm, where, nbytes, size, &memory);
    put_input(where, data, cadre_comm_rank(comm), 0, count, dtype);
    reference_input(wanted, root, 0, count, dtype);
    CHECK(cadre_broadcast(comm, data, count, dtype, root) == CADRE_OK);
    check_result(where, data, wanted, count, dtype, false, CADRE_SUM);
    unplace(comm, where, memory);
    free(wanted);
}

/* All ranks have the same bits, and the same again. */
static void same_bits(cadre_comm *comm, enum placement where, size_t count)
{
    int world = cadre_comm_world(comm);
    size_t nbytes = count * sizeof(float);
    void *memory;
    char *data = place(comm, where, nbytes, 0, &memory), *first = malloc(nbytes), *all = malloc(nbytes * (size_t)world);
    for (int again = 0; again < 2; again++) {
        put_input(where, data, cadre_comm_rank(comm), 0, count, CADRE_FLOAT32);
        CHECK(cadre_all_reduce(comm, data, count, CADRE_FLOAT32, CADRE_SUM) == CADRE_OK);
        CHECK(again == 0 || memcmp(first, data, nbytes) == 0);
        memcpy(first, data, nbytes);
    }
    CHECK(cadre_all_gather(comm, data, all, count, CADRE_FLOAT32) == CADRE_OK);
    for (int r = 0; r < world; r++)
        CHECK(memcmp(all + (size_t)r * nbytes, first, nbytes) == 0);
    unplace(comm, where, memory);
    free(first);
    free(all);
}

static void every_operation(cadre_comm *comm, enum placement where, size_t count, cadre_dtype dtype)
{
    for (int op = CADRE_SUM; op <= CADRE_PRODUCT; op++)
        one_all_reduce(comm, where, count, dtype, (cadre_op)op);
    for (int in_place = 0; in_place < 2; in_place++) {
        one_reduce_scatter(comm, where, count, dtype, in_place);
        one_all_gather(comm, where, count, dtype, in_place);
    }
    for (int root = 0; root < cadre_comm_world(comm); root++)
        one_broadcast(comm, where, count, dtype, root);
    CHECK(cadre_barrier(comm) == CADRE_OK);
}

/* Requests of both kinds in one queue: in order, out of order, polled, with blocking operations between them, and none
 * at all. */
static void requests(cadre_comm *comm, enum placement where, size_t count)
{
    enum { N = 4 };
    int rank = cadre_comm_rank(comm), world = cadre_comm_world(comm);
    size_t nbytes = count * sizeof(float), all = count * (size_t)world;
    float *wanted[2] = {malloc(nbytes), malloc(nbytes)};
    reference_reduced(wanted[0], world, 0, count, CADRE_FLOAT32, CADRE_MEAN);
    reference_reduced(wanted[1], world, count * (size_t)rank, count, CADRE_FLOAT32, CADRE_MEAN);
    for (int way = 0; way < 4; way++) {
        cadre_request *request[N] = {NULL};
        void *memory[N], *other;
        char *data[N], *result[N], *apart = place(comm, where, nbytes, 0, &other);
        for (int i = 0; i < N; i++) {
            data[i] = place(comm, where, all * sizeof(float), 0, &memory[i]);
            put_input(where, data[i], rank, 0, all, CADRE_FLOAT32);
        }
        for (int i = 0; i < N; i++) {
            bool scatter = i % 2;
            result[i] = !scatter ? data[i] : i == 1 ? apart : data[i] + (size_t)rank * nbytes;
            CHECK((scatter ? cadre_reduce_scatter_start(comm, data[i], result[i], count, CADRE_FLOAT32, CADRE_MEAN,
                                                        &request[i])
                           : cadre_all_reduce_start(comm, data[i], count, CADRE_FLOAT32, CADRE_MEAN, &request[i])) ==
                  CADRE_OK);
        }
        if (way == 3)
            one_all_reduce(comm, PLAIN, 100, CADRE_FLOAT64, CADRE_SUM);
        for (int i = 0; i < N; i++) {
            int k = way == 1 ? N - 1 - i : i;
            bool done = way != 2;
            while (!done)
                CHECK(cadre_test(comm, &request[k], &done) == CADRE_OK);
            CHECK(cadre_wait(comm, &request[k]) == CADRE_OK && request[k] == NULL);
            check_result(where, result[k], wanted[k % 2], count, CADRE_FLOAT32, true, CADRE_MEAN);
        }
        for (int i = 0; i < N; i++)
            unplace(comm, where, memory[i]);
        unplace(comm, where, other);
    }
    cadre_request *none = NULL;
    bool done = false;
    CHECK(cadre_wait(comm, &none) == CADRE_OK && cadre_test(comm, &none, &done) == CADRE_OK && done);
    CHECK(cadre_all_reduce_start(comm, NULL, 0, CADRE_FLOAT32, CADRE_SUM, &none) == CADRE_OK && none);
    CHECK(cadre_wait(comm, &none) == CADRE_OK && !none);
    CHECK(cadre_reduce_scatter_start(comm, NULL, NULL, 0, CADRE_FLOAT32, CADRE_SUM, &none) == CADRE_OK && none);
    CHECK(cadre_wait(comm, &none) == CADRE_OK && !none);
    free(wanted[0]);
    free(wanted[1]);
}

static void registered_memory(cadre_comm *comm)
{
    void *memory[3];
    for (int i = 0; i < 3; i++) {
        size_t nbytes = (size_t[]){1, 5000, 3 << 20}[i];
        CHECK(cadre_comm_alloc(comm, nbytes, &memory[i]) == CADRE_OK);
        CHECK((uintptr_t)memory[i] % 4096 == 0);
        char *host = malloc(nbytes);
        copy(REGISTERED, host, memory[i], nbytes);
        for (size_t k = 0; k < nbytes; k += 997)
            CHECK(host[k] == 0);
        memset(host, 1, nbytes);
        copy(REGISTERED, memory[i], host, nbytes);
        free(host);
    }
    cadre_comm_dealloc(comm, memory[1]);
    cadre_comm_dealloc(comm, NULL);
    char first = 1;
    CHECK(cadre_comm_alloc(comm, 5000, &memory[1]) == CADRE_OK);
    copy(REGISTERED, &first, memory[1], 1);
    CHECK(first == 0);
    for (int i = 0; i < 3; i++)
        cadre_comm_dealloc(comm, memory[i]);
}

void contract_results(const cadre_oob *oob, const char *backend)
{
    cadre_comm *comm = join(oob, backend, 60);
    static const size_t counts[] = {0, 1, 7, 1025, 4099};
    cadre_comm_label(comm, "the contract");
    for (int where = PLAIN; where < (contract_traits.copy ? MIXED : PLACEMENTS); where++) {
        for (int dtype = CADRE_FLOAT32; dtype <= CADRE_INT64; dtype++)
            for (size_t i = contract_traits.sample ? (size_t)dtype % 2 : 0; i < sizeof counts / sizeof counts[0];
                 i += contract_traits.sample ? 2 : 1)
                every_operation(comm, (enum placement)where, counts[i], (cadre_dtype)dtype);
        every_operation(comm, (enum placement)where, 40003, CADRE_FLOAT32);
        one_all_reduce(comm, (enum placement)where, (1 << 19) + 3, CADRE_BFLOAT16, CADRE_MEAN);
        one_all_reduce(comm, (enum placement)where, (1 << 18) + 3, CADRE_FLOAT32, CADRE_SUM);
        for (size_t i = 1; contract_traits.another_order && i < sizeof counts / sizeof counts[0]; i++)
            same_bits(comm, (enum placement)where, 100 * counts[i]);
        requests(comm, (enum placement)where, 1000);
        requests(comm, (enum placement)where, 150001);
    }
    for (int i = 0; i < 200; i++)
        CHECK(cadre_barrier(comm) == CADRE_OK);
    CHECK(cadre_comm_synchronize(comm) == CADRE_OK);
    CHECK(cadre_comm_late_s(comm) >= 0);
    registered_memory(comm);
    cadre_comm_free(comm);
}

static void bad_arguments(const cadre_oob *oob, const char *backend)
{
    cadre_comm *comm = join(oob, backend, 60), *other = NULL;
    double data[64] = {0};
    char *odd = (char *)data + 2;
    cadre_request *request = NULL;
    bool done;
    void *memory = NULL;
    CHECK(cadre_all_reduce(comm, NULL, 1, CADRE_FLOAT32, CADRE_SUM) == CADRE_EINVAL);
    CHECK(cadre_all_reduce(comm, data, 1, (cadre_dtype)9, CADRE_SUM) == CADRE_EINVAL);
    CHECK(cadre_all_reduce(comm, data, 1, CADRE_FLOAT32, (cadre_op)9) == CADRE_EINVAL);
    CHECK(cadre_all_reduce(comm, odd, 1, CADRE_FLOAT32, CADRE_SUM) == CADRE_EINVAL);
    CHECK(cadre_all_reduce(comm, data, SIZE_MAX / 2, CADRE_FLOAT32, CADRE_SUM) == CADRE_EINVAL);
    CHECK(cadre_broadcast(comm, data, 1, CADRE_FLOAT32, oob->world) == CADRE_EINVAL);
    CHECK(cadre_broadcast(comm, data, 1, CADRE_FLOAT32, -1) == CADRE_EINVAL);
    CHECK(cadre_reduce_scatter(comm, data, (char *)data + 8 * oob->rank + 4, 2, CADRE_FLOAT32, CADRE_SUM) ==
          CADRE_EINVAL);
    CHECK(cadre_all_gather(comm, (char *)data + 8 * oob->rank + 4, data, 2, CADRE_FLOAT32) == CADRE_EINVAL);
    CHECK(cadre_all_reduce_start(comm, data, 1, CADRE_FLOAT32, CADRE_SUM, NULL) == CADRE_EINVAL);
    CHECK(cadre_reduce_scatter_start(comm, data, data, 1, CADRE_FLOAT32, CADRE_SUM, NULL) == CADRE_EINVAL);
    CHECK(cadre_reduce_scatter_start(comm, data, (char *)data + 8 * oob->rank + 4, 2, CADRE_FLOAT32, CADRE_SUM,
                                     &request) == CADRE_EINVAL &&
          !request);
    CHECK(cadre_test(comm, &request, NULL) == CADRE_EINVAL && cadre_wait(comm, NULL) == CADRE_EINVAL);
    CHECK(cadre_comm_alloc(comm, 0, &memory) == CADRE_EINVAL && !memory);
    CHECK(cadre_test(comm, &request, &done) == CADRE_OK);
    CHECK(cadre_comm_new(NULL, NULL, &other) == CADRE_EINVAL);
    cadre_oob wrong = *oob;
    wrong.rank = wrong.world;
    CHECK(cadre_comm_new(&wrong, NULL, &other) == CADRE_EINVAL && !other);
    CHECK(cadre_barrier(comm) == CADRE_OK); /* none of which broke it */
    cadre_comm_free(comm);
    cadre_comm_free(NULL);
}

static void setup_disagreement(const cadre_oob *oob, const char *backend)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "nonsense", .timeout_s = 20};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_ENOTSUP && !comm);
    CHECK(strstr(cadre_error_message(), "nonsense"));
    if (oob->world == 1)
        return;
    options.backend = oob->rank == 0 ? backend : "nonsense";
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_EMISMATCH && !comm);
    options.backend = "self";
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_ENOTSUP && !comm);
}

/* Short of time from now on, but not while it is made, which takes long on a busy machine. */
static cadre_comm *join_in_a_hurry(const cadre_oob *oob, const char *backend, double timeout_s)
{
    cadre_comm *comm = join(oob, backend, 60);
    if (contract_traits.hurry)
        contract_traits.hurry(comm, timeout_s);
    comm->timeout_s = timeout_s;
    return comm;
}

/* Every rank but `missing` calls; each has to say who is missing, and stays broken. */
static void missing_rank(const cadre_oob *oob, const char *backend, enum placement where)
{
    int missing = oob->world - 1;
    char wanted[32];
    snprintf(wanted, sizeof wanted, "rank %d", missing);
    for (int kind = 0; kind < 6; kind++) {
        enum { COUNT = 50000 };
        cadre_comm *comm = join_in_a_hurry(oob, backend, 0.6);
        void *memory[2];
        size_t nbytes = COUNT * (size_t)oob->world * sizeof(float);
        void *data = place(comm, where, nbytes, 0, &memory[0]), *more = place(comm, where, nbytes, 0, &memory[1]);
        put_input(where, data, oob->rank, 0, nbytes / sizeof(float), CADRE_FLOAT32);
        cadre_request *request = NULL;
        int status = CADRE_OK;
        cadre_comm_label(comm, "bucket 3");
        meet(oob);
        double begun = base_now();
        if (oob->rank != missing) {
            switch (kind) {
            case 0:
                status = cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM);
                break;
            case 1:
                status = cadre_reduce_scatter(comm, data, more, COUNT, CADRE_FLOAT32, CADRE_SUM);
                break;
            case 2:
                status = cadre_all_gather(comm, data, more, COUNT, CADRE_FLOAT32);
                break;
            case 3:
                status = cadre_broadcast(comm, data, COUNT, CADRE_FLOAT32, missing);
                break;
            case 4:
                status = cadre_barrier(comm);
                break;
            default:
                status = cadre_all_reduce_start(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM, &request);
                if (!status)
                    status = cadre_wait(comm, &request);
            }
            if (!status) /* on a GPU it shows later */
                status = cadre_comm_synchronize(comm);
            CHECK(status == CADRE_ETIMEDOUT);
            CHECK(base_now() - begun < 10);
            CHECK(strstr(cadre_error_message(), wanted) && strstr(cadre_error_message(), "bucket 3"));
            CHECK(cadre_barrier(comm) == CADRE_ESTATE && strstr(cadre_error_message(), wanted));
        }
        meet(oob);
        unplace(comm, where, memory[0]);
        unplace(comm, where, memory[1]);
        cadre_comm_free(comm);
    }
}

static void *abort_soon(void *comm)
{
    base_sleep_ns(50000000);
    cadre_comm_abort(comm);
    return NULL;
}

static void aborts(const cadre_oob *oob, const char *backend)
{
    cadre_comm *comm = join(oob, backend, 30);
    pthread_t thread;
    if (oob->rank == 0) {
        double begun = base_now();
        CHECK(pthread_create(&thread, NULL, abort_soon, comm) == 0);
        if (oob->world > 1)
            CHECK(cadre_barrier(comm) == CADRE_ECANCELED);
        CHECK(base_now() - begun < 5);
        pthread_join(thread, NULL);
        int expected = oob->world > 1 ? CADRE_ESTATE : CADRE_ECANCELED;
        CHECK(cadre_barrier(comm) == expected);
    }
    meet(oob);
    cadre_comm_free(comm);
}

void contract_failures(const cadre_oob *oob, const char *backend)
{
    bad_arguments(oob, backend);
    setup_disagreement(oob, backend);
    if (oob->world > 1)
        missing_rank(oob, backend, PLAIN);
    if (oob->world > 1 && contract_traits.copy)
        missing_rank(oob, backend, REGISTERED);
    aborts(oob, backend);
}
