/*
 * How long a checkpoint stops the training: one file by rank 0, or a share by each rank; written at once, or behind the training.
 *
 *     bench_saving [--mib N] [--local N] [--workers N] [--rounds N] [DIRECTORY]
 *
 * A state of N MiB (128) in 64 tensors and N MiB (0) a rank of local entries, as a sharded optimiser has, is saved by so many workers (2), once in each of
 * four ways in each round (9), in an order that turns. A step meanwhile is a barrier, and 2 ms in which the cores are free. Printed are the medians over
 * the rounds of
 *
 *     stopped    the time in the cadre_step that saves, of the rank that it holds longest
 *     in all     the same and what the cadre_steps after it took until the checkpoint had its name
 *     written    from the beginning of the save until then
 *
 * and their ratios, whole to shares. Stores go into a new folder in DIRECTORY (the current one), which is removed.
 */
#include "bench/bench.h"
#include "cadre/cadre.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ROUNDS = 99, MOST_WORKERS = 16, TENSORS = 64, WAYS = 4, MOST_STEPS = 100000 };

struct plan {
    int mib, local, workers, rounds;
};

static const struct {
    const char *name;
    int sharded, behind;
} ways[WAYS] = {{"whole, at once", 0, -1}, {"shares, at once", 1, -1}, {"whole, behind", 0, 1}, {"shares, behind", 1, 1}};

/* Shared with the workers. */
static struct figures {
    double stopped[WAYS][MOST_ROUNDS], in_all[WAYS][MOST_ROUNDS], written[WAYS][MOST_ROUNDS];
    double own[MOST_WORKERS];
    int way, round;
} * figures;

/* The third checkpoint is measured: memory and directories are warm then. */
static int save_once(cadre_session *session, cadre_state *state, int number)
{
    int rank = cadre_session_rank(session);
    char path[1200];
    snprintf(path, sizeof path, "%s/checkpoint-%06d", cadre_session_directory(session), number);
    int status = cadre_barrier(cadre_session_comm(session));
    double begun = bench_now();
    state->step++;
    if (status == CADRE_OK)
        status = cadre_step(session, state);
    double stopped = bench_now() - begun, more = 0;
    figures->own[rank] = stopped;
    int32_t there = 0;
    for (int i = 0; status == CADRE_OK && !there && i < MOST_STEPS; i++) {
        there = access(path, F_OK) == 0;
        status = cadre_broadcast(cadre_session_comm(session), &there, 1, CADRE_INT32, 0);
        if (there || status != CADRE_OK)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        status = cadre_barrier(cadre_session_comm(session));
        double called = bench_now();
        if (status == CADRE_OK)
            status = cadre_step(session, NULL);
        more += bench_now() - called;
    }
    if (rank == 0) {
        int way = figures->way, round = figures->round;
        figures->stopped[way][round] = 0;
        for (int i = 0; i < cadre_session_world(session); i++)
            figures->stopped[way][round] = figures->own[i] > figures->stopped[way][round] ? figures->own[i] : figures->stopped[way][round];
        figures->in_all[way][round] = figures->stopped[way][round] + more;
        figures->written[way][round] = bench_now() - begun;
    }
    return status == CADRE_OK && !there ? cadre_fail(CADRE_ETIMEDOUT, "%s has not come", path) : status;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const struct plan *plan = user;
    cadre_state *state = NULL;
    size_t count = (size_t)plan->mib * (1 << 20) / sizeof(float), each = count / TENSORS, local = (size_t)plan->local << 20;
    float *values = malloc(count * sizeof *values);
    unsigned char *own = malloc(local + 1);
    int status = values && own ? cadre_state_new(&state) : CADRE_ENOMEM;
    (void)config;
    for (size_t i = 0; status == CADRE_OK && i < count; i++)
        values[i] = (float)i;
    for (int i = 0; status == CADRE_OK && i < TENSORS; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        status = cadre_state_add_tensor(state, name, CADRE_STATE_F32, 1, (int64_t[]){(int64_t)each}, values + (size_t)i * each);
    }
    if (status == CADRE_OK)
        memset(own, cadre_session_rank(session), local + 1);
    if (status == CADRE_OK && local)
        status = cadre_state_add_local(state, "own", own, local);
    for (int number = 1; status == CADRE_OK && number <= 3; number++)
        status = save_once(session, state, number);
    cadre_state_free(state);
    free(values);
    free(own);
    return status;
}

static void print(const struct plan *plan)
{
    printf("a state of %d MiB and %d MiB local to each of %d workers, medians of %d rounds, load %.1f\n", plan->mib, plan->local, plan->workers, plan->rounds, bench_load());
    printf("  %-16s %12s %12s %12s\n", "", "stopped", "in all", "written");
    double medians[WAYS][3];
    for (int way = 0; way < WAYS; way++) {
        medians[way][0] = bench_median(figures->stopped[way], plan->rounds);
        medians[way][1] = bench_median(figures->in_all[way], plan->rounds);
        medians[way][2] = bench_median(figures->written[way], plan->rounds);
        printf("  %-16s %9.1f ms %9.1f ms %9.1f ms\n", ways[way].name, 1e3 * medians[way][0], 1e3 * medians[way][1], 1e3 * medians[way][2]);
    }
    for (int way = 0; way < WAYS; way += 2)
        printf("  %-16s %10.2f x %10.2f x %10.2f x   whole to shares\n", way ? "behind" : "at once", medians[way][0] / medians[way + 1][0],
               medians[way][1] / medians[way + 1][1], medians[way][2] / medians[way + 1][2]);
}

int main(int argc, char **argv)
{
    struct plan plan = {.mib = 128, .workers = 2, .rounds = 9};
    const char *directory = ".";
    for (int i = 1; i < argc; i++) {
        int *number = strcmp(argv[i], "--mib") == 0 ? &plan.mib : strcmp(argv[i], "--local") == 0 ? &plan.local :
                      strcmp(argv[i], "--workers") == 0 ? &plan.workers : strcmp(argv[i], "--rounds") == 0 ? &plan.rounds : NULL;
        if (number)
            *number = i + 1 < argc ? atoi(argv[++i]) : 0;
        else
            directory = argv[i];
    }
    if (plan.mib < 1 || plan.local < 0 || plan.workers < 1 || plan.workers > MOST_WORKERS || plan.rounds < 1 || plan.rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: bench_saving [--mib N] [--local N] [--workers 1..%d] [--rounds 1..%d] [DIRECTORY]\n", MOST_WORKERS, MOST_ROUNDS);
        return 2;
    }
    char folder[BENCH_FOLDER], experiment[BENCH_FOLDER + 10];
    figures = bench_share(sizeof *figures);
    if (!figures || !bench_folder_make(folder, directory, "saving"))
        return 1;
    snprintf(experiment, sizeof experiment, "%s/bench", folder);
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < plan.rounds * WAYS; i++) {
        figures->round = i / WAYS;
        figures->way = (i + figures->round) % WAYS;
        cadre_trainer trainer = {.train = train, .user = &plan, .scaling = {.num_workers = plan.workers}, .run = {.name = "bench", .storage = folder},
                                 .checkpoint = {.keep = 1, .every_steps = 1, .write_behind = ways[figures->way].behind, .sharded = ways[figures->way].sharded}};
        status = cadre_trainer_fit(&trainer, NULL);
        if (!bench_folder_remove(experiment) && status == CADRE_OK) /* each needs the room */
            status = cadre_fail(CADRE_EIO, "remove %s", experiment);
    }
    if (status != CADRE_OK)
        fprintf(stderr, "bench_saving: %s\n", cadre_error_message());
    else
        print(&plan);
    return !bench_folder_remove(folder) || status != CADRE_OK;
}
