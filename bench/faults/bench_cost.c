/*
 * What being ready for faults costs a training in which none occurs: ResNet-18, two workers, one thread each.
 *
 *     bench_cost [--batch N] [--rounds N] [--steps N] [DIRECTORY]
 *
 * Each round (12) times so many steps (5) in each of three ways, in an order that turns from round to round, in one
 * run:
 *
 *     none     forward, backward with gradient sync, optimiser
 *     watched  the same and cadre_step, which tells the controller of the progress that it watches
 *     saved    the same and, with the first step, a checkpoint of model and optimiser: copied, and written behind the
 *              training while the steps go on. It must be whole on the disk (synced, renamed) when the last step ends:
 *              else the figure would hide a part of it, and the bench fails
 *
 * With a checkpoint each 100 steps, being ready costs a step
 *
 *     (watched - none) + (all steps of saved - all steps of watched) / 100
 *
 * from the differences within a round; it is printed as a part of the median step with none, as median and quartiles
 * over the rounds. In "none", too, the controller looks once in 100 ms and the gradient sync sends it a word once a
 * second. Stores go into a new folder in DIRECTORY (the current one), which is removed. On a machine that others use,
 * `chrt -r 1` in front gives it the cores all the same.
 */
#include "bench/bench.h"
#include "bench/resnet_steps.h"
#include "cadre/cadre.h"
#include "examples/try.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROUNDS = 100, NONE = 0, WATCHED, SAVED, WAYS, EVERY_STEPS = 100 };

struct plan {
    int batch, rounds, steps;
};

/* By rank 0, for the process that prints: memory that both have. Seconds. */
static struct figures {
    double times[WAYS][MOST_ROUNDS]; /* of all steps of a way in a round */
    double calls[WAYS][MOST_ROUNDS]; /* of the cadre_steps among them */
    double stalls[MOST_ROUNDS];      /* of the one that saves */
} * figures;

struct training {
    const struct plan *plan;
    cadre_session *session;
    resnet_steps steps;
    cadre_state *state;
    int saved; /* checkpoints */
};

/* ---- training ---- */

/* Is the newest checkpoint there under its final name? */
static int check_written(struct training *t)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/checkpoint-%06d", cadre_session_directory(t->session), t->saved);
    return cadre_session_rank(t->session) != 0 || access(path, F_OK) == 0
               ? CADRE_OK
               : cadre_fail(CADRE_ETIMEDOUT, "the checkpoint is still being written after %d steps: take more --steps",
                            t->plan->steps);
}

static int run_way(struct training *t, int way, int round)
{
    cadre_comm *comm = cadre_session_comm(t->session);
    int status = CADRE_OK;
    double calls = 0;
    TRY(cadre_barrier(comm));
    double begun = bench_now();
    for (int i = 0; i < t->plan->steps; i++) {
        TRY(resnet_steps_next(&t->steps));
        if (way == NONE)
            continue;
        bool saves = way == SAVED && i == 0; /* every_steps is 1: each step that is given the state saves it */
        double called = bench_now();
        TRY(cadre_step(t->session, saves ? t->state : NULL));
        double took = bench_now() - called;
        t->saved += saves;
        calls += took;
        if (saves && cadre_session_rank(t->session) == 0)
            figures->stalls[round] = took;
    }
    TRY(cadre_barrier(comm));
    if (cadre_session_rank(t->session) == 0) {
        figures->times[way][round] = bench_now() - begun;
        figures->calls[way][round] = calls;
    }
    if (way == SAVED)
        TRY(check_written(t));
done:
    return status;
}

/* ---- figures ---- */

static void print(const struct plan *plan)
{
    double watching[MOST_ROUNDS], saving[MOST_ROUNDS], together[MOST_ROUNDS];
    int rounds = plan->rounds, steps = plan->steps;
    double none = bench_median(figures->times[NONE], rounds) / steps, call = bench_median(figures->calls[WATCHED], rounds) / steps;
    for (int i = 0; i < rounds; i++) {
        watching[i] = (figures->times[WATCHED][i] - figures->times[NONE][i]) / steps;
        saving[i] = figures->times[SAVED][i] - figures->times[WATCHED][i];
        together[i] = 100 * (watching[i] + saving[i] / EVERY_STEPS) / none;
    }
    double watched = bench_median(watching, rounds), saved = bench_median(saving, rounds);
    printf("ResNet-18, batch %d, two workers, medians of %d rounds of %d steps, load %.1f\n", plan->batch, rounds,
           steps, bench_load());
    printf("  a step, none of it                           %9.2f ms\n", 1e3 * none);
    printf("  heartbeat and hang watch, of a step          %9.2f ms  %6.2f %%   (in cadre_step itself %.3f ms)\n",
           1e3 * watched, 100 * watched / none, 1e3 * call);
    printf("  a checkpoint, training thread stopped        %9.2f ms\n", 1e3 * bench_median(figures->stalls, rounds));
    printf("  a checkpoint, all that the steps took longer %9.2f ms  %6.2f %%   of %d steps\n", 1e3 * saved,
           100 * saved / (EVERY_STEPS * none), EVERY_STEPS);
    printf("  together, a checkpoint each %d steps                       %6.2f %%   (quartiles %.2f and %.2f)   bar <= "
           "2 %%\n",
           EVERY_STEPS, bench_median(together, rounds), bench_quantile(together, rounds, 0.25), bench_quantile(together, rounds, 0.75));
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    struct training *t = calloc(1, sizeof *t);
    int status = CADRE_OK;
    (void)config;
    if (!t)
        return CADRE_ENOMEM;
    t->plan = user;
    t->session = session;
    TRY(resnet_steps_make(&t->steps, cadre_session_comm(session), 18, t->plan->batch, true, ct_has_fast_bf16()));
    TRY(cadre_state_new(&t->state));
    TRY(cadre_state_add_module(t->state, "model", t->steps.model));
    TRY(cadre_state_add_optim(t->state, "optim", t->steps.optim));
    for (int way = 0; way < WAYS; way++) /* warm */
        TRY(run_way(t, way, 0));
    for (int round = 0; round < t->plan->rounds; round++)
        for (int way = 0; way < WAYS; way++)
            TRY(run_way(t, (way + round) % WAYS, round));
done:
    cadre_state_free(t->state);
    resnet_steps_free(&t->steps);
    free(t);
    return status;
}

int main(int argc, char **argv)
{
    struct plan plan = {.batch = 64, .rounds = 12, .steps = 5};
    const char *directory = ".";
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--batch") == 0 && i + 1 < argc)
            plan.batch = atoi(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            plan.rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
            plan.steps = atoi(argv[++i]);
        else if (argv[i][0] != '-')
            directory = argv[i];
        else
            plan.rounds = 0;
    if (plan.batch < 1 || plan.steps < 1 || plan.rounds < 1 || plan.rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: bench_cost [--batch N] [--rounds 1..%d] [--steps N] [DIRECTORY]\n", MOST_ROUNDS);
        return 2;
    }
    char folder[BENCH_FOLDER];
    figures = bench_share(sizeof *figures);
    if (!figures || !bench_folder_make(folder, directory, "cost"))
        return 1;
    cadre_trainer trainer = {.train = train,
                             .user = &plan,
                             .scaling = {.num_workers = 2},
                             .run = {.name = "bench", .storage = folder},
                             .checkpoint = {.keep = 1, .every_steps = 1}};
    int status = cadre_trainer_fit(&trainer, NULL);
    if (status != CADRE_OK)
        fprintf(stderr, "bench_cost: %s\n", cadre_error_message());
    else
        print(&plan);
    return !bench_folder_remove(folder) || status != CADRE_OK;
}
