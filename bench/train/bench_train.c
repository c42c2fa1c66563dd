/*
 * Training steps on request: bench_train FOLDER DEPTH BATCH WORKERS contiguous|channels_last|default float32|bfloat16|default
 *
 * Reads a number of steps from the fifo FOLDER/go, makes them and writes to the fifo FOLDER/took, in seconds: how long they took, rank 0's processor
 * time, and for each rank what cadre_ddp_stats calls waited_s and late_s; until there is a 0. Its first answer, unasked, is the time
 * from main to the first step's begin and to its end. Batches are random and in memory; what is measured is forward, backward, gradient sync,
 * optimiser and cadre_step, as examples/resnet_mnist.c has them. ddp.py does the same with PyTorch.
 */
#include "bench/bench.h"
#include "bench/resnet_steps.h"
#include "cadre/cadre.h"
#include "examples/try.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS_MAX = 64, TIMES = 2 };

struct plan {
    const char *folder;
    int depth, batch, workers;
    bool channels_last, bfloat16;
    double begun;
};

struct training {
    const struct plan *plan;
    cadre_session *session;
    resnet_steps steps;
};

static double processor_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int step(struct training *t)
{
    int status;
    TRY(resnet_steps_next(&t->steps));
    TRY(cadre_step(t->session, NULL));
done:
    return status;
}

static int read_times(const cadre_ddp *ddp, double times[TIMES])
{
    cadre_ddp_statistics stats;
    int status = cadre_ddp_stats(ddp, &stats);
    times[0] = stats.waited_s;
    times[1] = stats.late_s;
    return status;
}

/* So many steps; rank 0 writes how long they took. */
static int round_of(struct training *t, int64_t count, FILE *took)
{
    cadre_comm *comm = cadre_session_comm(t->session);
    double before[TIMES], after[TIMES], all[WORKERS_MAX * TIMES];
    int status;
    TRY(read_times(t->steps.ddp, before));
    TRY(cadre_barrier(comm));
    double begun = bench_now(), cpu_begun = processor_time();
    for (int64_t i = 0; i < count; i++)
        TRY(step(t));
    TRY(cadre_barrier(comm));
    double wall = bench_now() - begun, cpu = processor_time() - cpu_begun;
    TRY(read_times(t->steps.ddp, after));
    for (int i = 0; i < TIMES; i++)
        after[i] -= before[i];
    TRY(cadre_all_gather(comm, after, all, TIMES, CADRE_FLOAT64));
    if (took) {
        fprintf(took, "%.6f %.6f", wall, cpu);
        for (int i = 0; i < TIMES * cadre_session_world(t->session); i++)
            fprintf(took, " %.6f", all[i]);
        fprintf(took, "\n");
        fflush(took);
    }
done:
    return status;
}

static FILE *open_fifo(const char *folder, const char *name, const char *mode)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, mode);
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    struct training t = {.plan = user, .session = session};
    cadre_comm *comm = cadre_session_comm(session);
    FILE *go = NULL, *took = NULL;
    int status = CADRE_OK;
    int64_t count = 0;
    (void)config;
    TRY(resnet_steps_make(&t.steps, comm, t.plan->depth, t.plan->batch, t.plan->channels_last, t.plan->bfloat16));
    double ready = bench_now() - t.plan->begun;
    TRY(step(&t));
    double first = bench_now() - t.plan->begun;
    if (cadre_session_rank(session) == 0) {
        took = open_fifo(t.plan->folder, "took", "w");
        go = open_fifo(t.plan->folder, "go", "r");
        if (!go || !took) {
            status = cadre_fail(CADRE_EIO, "open the fifos in %s", t.plan->folder);
            goto done;
        }
        fprintf(took, "%.6f %.6f\n", ready, first);
        fflush(took);
    }
    for (;;) {
        count = 0;
        if (go && fscanf(go, "%ld", &count) != 1)
            count = 0;
        TRY(cadre_broadcast(comm, &count, 1, CADRE_INT64, 0));
        if (count <= 0)
            break;
        TRY(round_of(&t, count, took));
    }
done:
    if (go)
        fclose(go);
    if (took)
        fclose(took);
    resnet_steps_free(&t.steps);
    return status;
}

int main(int argc, char **argv)
{
    double begun = bench_now();
    if (argc != 7) {
        fprintf(stderr, "usage: bench_train FOLDER 8|18 BATCH WORKERS contiguous|channels_last|default float32|bfloat16|default\n");
        return 2;
    }
    if (atoi(argv[4]) > WORKERS_MAX) {
        fprintf(stderr, "bench_train: at most %d workers\n", WORKERS_MAX);
        return 2;
    }
    struct plan plan = {
        .folder = argv[1], .depth = atoi(argv[2]), .batch = atoi(argv[3]), .workers = atoi(argv[4]), .begun = begun,
        .channels_last = strcmp(argv[5], "contiguous") != 0,
        .bfloat16 = strcmp(argv[6], "bfloat16") == 0 || (strcmp(argv[6], "default") == 0 && ct_has_fast_bf16()),
    };
    cadre_trainer trainer = {.train = train, .user = &plan, .scaling = {.num_workers = plan.workers}, .run = {.name = "bench", .storage = plan.folder}};
    if (cadre_trainer_fit(&trainer, NULL) != CADRE_OK) {
        fprintf(stderr, "bench_train: %s\n", cadre_error_message());
        return 1;
    }
    return 0;
}
