/*
 * All-reduce of float32 beside what it is measured against: a bare C loop over the same shared pages, MPI_Allreduce,
 * and Gloo.
 *
 *     cmake -S . -B build -G Ninja && ninja -C build bench_allreduce
 *     mpirun -np 2 --bind-to none build/bench/bench_allreduce [--json] [--seconds 2] [--gloo FILE] [BYTES ...]
 *
 * (run.sh beside it does all that, and the plot.) The ways are taken in turn in every round, in orders that are
 * balanced, so that a busy machine disturbs all alike; a figure is the median over rounds of the slowest rank's time.
 * Before every timed operation each rank writes its whole buffer anew. In the bare loop each rank sums its share of the
 * buffers that all have mapped and writes it to all, between the same two barriers. Over several hosts there is no bare
 * loop and no Gloo, and shm is hier.
 */
#include "base/clock.h"
#include "bench/bench.h"
#include "cadre/collectives.h"
#include "collectives/comm.h"
#include "collectives/mpi_oob.h"
#include "collectives/shm/shm.h"
#include "gloo.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum way { REGISTERED, UNREGISTERED, BARE, MPI, OVER_MPI, GLOO, WAYS };
static const char *const way_names[WAYS] = {"registered",    "unregistered", "bare_loop",
                                            "MPI_Allreduce", "mpi_backend",  "gloo"};
/* A round's order; the next one's has each number one higher. In six rounds each way follows each other once (Williams
 * 1949): what the one before leaves in the caches, where it helps or harms, does so to all. */
static const int first_round[] = {0, 1, 5, 2, 4, 3};
_Static_assert(sizeof first_round / sizeof *first_round == WAYS, "another number of ways needs another order");
enum { ROUNDS_MAX = 2001, SIZES_MAX = 32 };

struct bench {
    cadre_oob oob;
    cadre_comm *comm, *over_mpi;
    float *registered, *plain;
    float *const *mapped; /* every rank's registered buffer; NULL over several hosts */
    bool gloo;
};

struct figures {
    int rounds;
    double quartile[WAYS][3]; /* lower, median, upper; 0: not measured */
};

static void must(int status, const char *what)
{
    if (status == CADRE_OK)
        return;
    fprintf(stderr, "bench_allreduce: %s: %s\n", what, cadre_error_message());
    collectives_mpi_leave(false);
    exit(1);
}

/* The yardstick: what a user's own loop would be, compiled with -O3. */
static inline __attribute__((always_inline)) void bare_body(float *const *all, int world, size_t lo, size_t hi)
{
    if (world == 2) {
        float *a = all[0], *b = all[1];
        for (size_t i = lo; i < hi; i++) {
            float sum = a[i] + b[i];
            a[i] = sum;
            b[i] = sum;
        }
        return;
    }
    for (size_t i = lo; i < hi; i++) {
        float sum = 0;
        for (int r = 0; r < world; r++)
            sum += all[r][i];
        for (int r = 0; r < world; r++)
            all[r][i] = sum;
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void bare_avx2(float *const *all, int world, size_t lo, size_t hi)
{
    bare_body(all, world, lo, hi);
}
#endif

static void bare_sum(float *const *all, int world, size_t lo, size_t hi)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        bare_avx2(all, world, lo, hi);
        return;
    }
#endif
    bare_body(all, world, lo, hi);
}

/* The registered buffers as this process sees them; only a benchmark may look inside. */
static float *const *find_mapped(cadre_comm *comm)
{
    const shm *self = comm->self;
    return strcmp(cadre_comm_backend(comm), "shm") == 0 ? (float *const *)(void *)self->regions->base : NULL;
}

static bool is_on(const struct bench *b, enum way way)
{
    return way == BARE ? b->mapped != NULL : way == GLOO ? b->gloo : true;
}

static double run(struct bench *b, enum way way, size_t count)
{
    int rank = b->oob.rank, world = b->oob.world;
    float *data = way == REGISTERED || way == BARE ? b->registered : b->plain;
    for (size_t i = 0; i < count && way != GLOO; i++)
        data[i] = 1.0f + (float)rank;
    must(cadre_barrier(b->comm), "barrier");
    double begun = base_now();
    switch (way) {
    case REGISTERED:
    case UNREGISTERED:
        must(cadre_all_reduce(b->comm, data, count, CADRE_FLOAT32, CADRE_SUM), way_names[way]);
        break;
    case BARE:
        must(cadre_barrier(b->comm), "barrier");
        bare_sum(b->mapped, world, count * (size_t)rank / (size_t)world, count * ((size_t)rank + 1) / (size_t)world);
        must(cadre_barrier(b->comm), "barrier");
        break;
    case MPI:
        MPI_Allreduce(MPI_IN_PLACE, data, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        break;
    case OVER_MPI:
        must(cadre_all_reduce(b->over_mpi, data, count, CADRE_FLOAT32, CADRE_SUM), way_names[way]);
        break;
    default:
        break;
    }
    double seconds = way == GLOO ? gloo_all_reduce(count) : base_now() - begun;
    float sum = (float)(world * (world + 1)) / 2;
    if (seconds < 0 || (way != GLOO && (data[0] != sum || data[count - 1] != sum)))
        must(CADRE_ESTATE, way_names[way]);
    must(cadre_all_reduce(b->comm, &seconds, 1, CADRE_FLOAT64, CADRE_MAX), "collect");
    return seconds;
}

static void measure(struct bench *b, size_t nbytes, double budget, struct figures *figures)
{
    static double times[WAYS][ROUNDS_MAX];
    size_t count = nbytes / sizeof(float);
    int rounds = 0, enough = 0;
    for (int way = 0; way < WAYS; way++)
        if (is_on(b, (enum way)way))
            run(b, (enum way)way, count);
    double begun = base_now();
    while (rounds < ROUNDS_MAX && !enough) {
        for (int i = 0; i < WAYS; i++) {
            int way = (first_round[i] + rounds) % WAYS;
            if (is_on(b, (enum way)way))
                times[way][rounds] = run(b, (enum way)way, count);
        }
        rounds++;
        enough = base_now() - begun > budget && rounds >= 15;
        must(cadre_broadcast(b->comm, &enough, 1, CADRE_INT32, 0), "go on");
    }
    *figures = (struct figures){.rounds = rounds};
    for (int way = 0; way < WAYS; way++) {
        if (!is_on(b, (enum way)way))
            continue;
        qsort(times[way], (size_t)rounds, sizeof(double), bench_by_value);
        for (int q = 0; q < 3; q++)
            figures->quartile[way][q] = times[way][rounds * (q + 1) / 4];
    }
}

/* How many times as long `a` takes as `b`. */
static double ratio(const struct figures *f, enum way a, enum way b)
{
    return f->quartile[b][1] > 0 ? f->quartile[a][1] / f->quartile[b][1] : 0;
}

static void print(const struct bench *b, size_t nbytes, const struct figures *f, bool json)
{
    if (json) {
        printf("{\"bytes\": %zu, \"ranks\": %d, \"backend\": \"%s\", \"rounds\": %d", nbytes, b->oob.world,
               cadre_comm_backend(b->comm), f->rounds);
        for (int way = 0; way < WAYS; way++)
            if (is_on(b, (enum way)way))
                printf(", \"%s\": [%.9f, %.9f, %.9f]", way_names[way], f->quartile[way][0], f->quartile[way][1],
                       f->quartile[way][2]);
        printf("}\n");
    } else {
        printf("%10zu", nbytes);
        for (int way = 0; way < WAYS; way++)
            printf(" %13.1f", f->quartile[way][1] * 1e6);
        printf(" %8.2f %8.2f %9.2f %9.2f   +-%.0f %%\n", ratio(f, REGISTERED, BARE), ratio(f, MPI, REGISTERED),
               ratio(f, MPI, UNREGISTERED), ratio(f, GLOO, REGISTERED),
               50 * (f->quartile[REGISTERED][2] - f->quartile[REGISTERED][0]) / f->quartile[REGISTERED][1]);
    }
    fflush(stdout);
}

static void print_heads(const struct bench *b)
{
    printf("float32 sum, %d ranks over %s; medians in us, their ratios, and half the quartiles' distance of the "
           "first\n%10s",
           b->oob.world, cadre_comm_backend(b->comm), "bytes");
    for (int way = 0; way < WAYS; way++)
        printf(" %13s", way_names[way]);
    printf(" %8s %8s %9s %9s\n", "reg/bare", "MPI/reg", "MPI/unreg", "gloo/reg");
}

static void set_up(struct bench *b, size_t largest, const char *gloo)
{
    must(collectives_mpi_join(&b->oob), "start it by mpirun");
    must(cadre_comm_new(&b->oob, NULL, &b->comm), "communicator");
    must(cadre_comm_new(&b->oob, &(cadre_comm_options){.backend = "mpi"}, &b->over_mpi), "mpi");
    must(cadre_comm_alloc(b->comm, largest, (void **)&b->registered), "alloc");
    b->mapped = find_mapped(b->comm);
    b->plain = aligned_alloc(4096, (largest + 4095) / 4096 * 4096);
    if (!b->plain)
        must(CADRE_ENOMEM, "plain memory");
    b->gloo = gloo && gloo_start(&b->oob, gloo);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    bool json = false;
    int sizes = 0;
    double budget = 2;
    const char *gloo = NULL;
    size_t bytes[SIZES_MAX] = {4 << 10, 64 << 10, 256 << 10, 1 << 20, 4000000, 16000000, 44000000, 100000000};
    size_t largest = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            budget = atof(argv[++i]);
        else if (strcmp(argv[i], "--gloo") == 0 && i + 1 < argc)
            gloo = argv[++i];
        else if (sizes < SIZES_MAX)
            bytes[sizes++] = strtoull(argv[i], NULL, 10);
    }
    sizes = sizes ? sizes : 8;
    for (int i = 0; i < sizes; i++)
        largest = bytes[i] > largest ? bytes[i] : largest;
    set_up(&b, largest, gloo);
    if (b.oob.rank == 0 && !json)
        print_heads(&b);
    for (int i = 0; i < sizes; i++) {
        struct figures figures;
        measure(&b, bytes[i], budget, &figures);
        if (b.oob.rank == 0)
            print(&b, bytes[i], &figures, json);
    }
    gloo_stop();
    cadre_comm_dealloc(b.comm, b.registered);
    free(b.plain);
    cadre_comm_free(b.over_mpi);
    cadre_comm_free(b.comm);
    collectives_mpi_leave(true);
    return 0;
}
