/*
 * All-reduce of float32 beside what it is measured against: a bare C loop over the same shared pages, and
 * MPI_Allreduce.
 *
 *     cmake -S . -B build -G Ninja && ninja -C build bench_allreduce
 *     mpirun -np 2 --bind-to none build/bench/bench_allreduce [--json] [--seconds 2] [BYTES ...]
 *
 * (as root: --allow-run-as-root; more ranks than cores: --oversubscribe --mca mpi_yield_when_idle 1). The ways are
 * taken in turn in every round, so that a busy machine disturbs all alike; a figure is the median over rounds of the
 * slowest rank's time. In the bare loop each rank sums its share of the buffers that all have mapped and writes it to
 * all, between the same two barriers.
 */
#include "base/clock.h"
#include "cadre/collectives.h"
#include "collectives/comm.h"
#include "collectives/mpi_oob.h"
#include "collectives/shm/shm.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum way { REGISTERED, UNREGISTERED, BARE, MPI, OVER_MPI, WAYS };
static const char *const way_names[WAYS] = {"registered", "unregistered", "bare loop", "MPI_Allreduce", "mpi backend"};
enum { ROUNDS_MAX = 2001, SIZES_MAX = 32 };

struct bench {
    cadre_oob oob;
    cadre_comm *comm, *over_mpi;
    float *registered, *plain;
    float *const *mapped; /* every rank's registered buffer */
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
    return (float *const *)(void *)self->regions->base;
}

static double run(struct bench *b, enum way way, size_t count)
{
    int rank = b->oob.rank, world = b->oob.world;
    must(cadre_barrier(b->comm), "barrier");
    double begun = base_now();
    switch (way) {
    case REGISTERED:
        must(cadre_all_reduce(b->comm, b->registered, count, CADRE_FLOAT32, CADRE_SUM), "registered");
        break;
    case UNREGISTERED:
        must(cadre_all_reduce(b->comm, b->plain, count, CADRE_FLOAT32, CADRE_SUM), "unregistered");
        break;
    case BARE:
        must(cadre_barrier(b->comm), "barrier");
        bare_sum(b->mapped, world, count * (size_t)rank / (size_t)world, count * ((size_t)rank + 1) / (size_t)world);
        must(cadre_barrier(b->comm), "barrier");
        break;
    case MPI:
        MPI_Allreduce(MPI_IN_PLACE, b->plain, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        break;
    default:
        must(cadre_all_reduce(b->over_mpi, b->plain, count, CADRE_FLOAT32, CADRE_SUM), "mpi backend");
    }
    double seconds = base_now() - begun;
    must(cadre_all_reduce(b->comm, &seconds, 1, CADRE_FLOAT64, CADRE_MAX), "collect");
    return seconds;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct bench *b, size_t nbytes, double budget, double medians[WAYS])
{
    static double times[WAYS][ROUNDS_MAX];
    size_t count = nbytes / sizeof(float);
    int rounds = 0, enough = 0;
    double begun = base_now();
    memset(b->registered, 0, nbytes); /* zeros stay zeros: no sum ever overflows into slow numbers */
    memset(b->plain, 0, nbytes);
    for (int way = 0; way < WAYS; way++)
        run(b, (enum way)way, count);
    while (rounds < ROUNDS_MAX && !enough) {
        for (int way = 0; way < WAYS; way++)
            times[way][rounds] = run(b, (enum way)way, count);
        rounds++;
        enough = base_now() - begun > budget && rounds >= 7;
        must(cadre_broadcast(b->comm, &enough, 1, CADRE_INT32, 0), "go on");
    }
    for (int way = 0; way < WAYS; way++) {
        qsort(times[way], (size_t)rounds, sizeof(double), by_value);
        medians[way] = times[way][rounds / 2];
    }
}

static void print(size_t nbytes, int world, const double medians[WAYS], int json)
{
    if (json) {
        printf("{\"bytes\": %zu, \"ranks\": %d", nbytes, world);
        for (int way = 0; way < WAYS; way++)
            printf(", \"%s\": %.9f", way_names[way], medians[way]);
        printf("}\n");
    } else {
        printf("%10zu", nbytes);
        for (int way = 0; way < WAYS; way++)
            printf("  %11.1f us", medians[way] * 1e6);
        printf("   %5.2f %6.1f %6.1f\n", medians[REGISTERED] / medians[BARE], medians[MPI] / medians[REGISTERED],
               medians[MPI] / medians[UNREGISTERED]);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    int json = 0, sizes = 0;
    double budget = 2;
    size_t bytes[SIZES_MAX] = {4 << 10, 64 << 10, 1 << 20, 4000000, 16000000, 44000000, 100000000}, largest = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = 1;
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            budget = atof(argv[++i]);
        else if (sizes < SIZES_MAX)
            bytes[sizes++] = strtoull(argv[i], NULL, 10);
    }
    sizes = sizes ? sizes : 7;
    for (int i = 0; i < sizes; i++)
        largest = bytes[i] > largest ? bytes[i] : largest;
    must(collectives_mpi_join(&b.oob), "start it by mpirun");
    must(cadre_comm_new(&b.oob, &(cadre_comm_options){.backend = "shm"}, &b.comm), "shm");
    must(cadre_comm_new(&b.oob, &(cadre_comm_options){.backend = "mpi"}, &b.over_mpi), "mpi");
    must(cadre_comm_alloc(b.comm, largest, (void **)&b.registered), "alloc");
    b.mapped = find_mapped(b.comm);
    b.plain = aligned_alloc(4096, (largest + 4095) / 4096 * 4096);
    if (!b.plain)
        return 1;
    if (b.oob.rank == 0 && !json) {
        printf("float32 sum, %d ranks; medians\n%10s", b.oob.world, "bytes");
        for (int way = 0; way < WAYS; way++)
            printf("  %14s", way_names[way]);
        printf("   %s\n", "reg/bare  MPI/reg  MPI/unreg");
    }
    for (int i = 0; i < sizes; i++) {
        double medians[WAYS];
        measure(&b, bytes[i], budget, medians);
        if (b.oob.rank == 0)
            print(bytes[i], b.oob.world, medians, json);
    }
    cadre_comm_dealloc(b.comm, b.registered);
    free(b.plain);
    cadre_comm_free(b.over_mpi);
    cadre_comm_free(b.comm);
    collectives_mpi_leave(true);
    return 0;
}
