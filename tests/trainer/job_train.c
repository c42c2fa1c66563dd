/*
 * A training without a model: parameters moved by an all-reduced pseudo-gradient that depends on parameters, step, rank and a random state of
 * the rank's own. Whatever is lost or done twice on the way changes the final bits.
 */
#include "job.h"

#include "cadre/data.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers" /* metrics in place, as programs write them */

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COUNT = 1000 };

struct training {
    double weights[COUNT], momentum[COUNT];
    double norm;
    int64_t seen;
    double total;    /* of the rank's losses */
    uint64_t random; /* the rank's own */
};

static double draw(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (double)(*random >> 11) * 0x1p-53;
}

static int add_entries(cadre_state *state, struct training *training, bool other)
{
    int64_t shape[1] = {COUNT};
    int status = cadre_state_add_tensor(state, "weights", CADRE_STATE_F64, 1, shape, training->weights);
    if (status == CADRE_OK)
        status = cadre_state_add_tensor(state, other ? "other" : "momentum", CADRE_STATE_F64, 1, shape, training->momentum);
    if (status == CADRE_OK)
        status = cadre_state_add_local(state, "total", &training->total, sizeof training->total);
    if (status == CADRE_OK)
        status = cadre_state_add_double(state, "norm", &training->norm);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "seen", &training->seen);
    if (status == CADRE_OK)
        status = cadre_state_add_local(state, "random", &training->random, sizeof training->random);
    return status;
}

static int optimise(cadre_session *session, struct training *training, int64_t step)
{
    double gradient[COUNT], loss = 0;
    int rank = cadre_session_rank(session);
    for (int i = 0; i < COUNT; i++) {
        gradient[i] = sin((double)step * 0.37 + i * 0.011 * (rank + 1)) + 0.1 * training->weights[i] + 0.01 * draw(&training->random);
        loss += gradient[i] * gradient[i];
    }
    training->total += loss / COUNT;
    training->seen++;
    int status = cadre_all_reduce(cadre_session_comm(session), gradient, COUNT, CADRE_FLOAT64, CADRE_MEAN);
    for (int i = 0; status == CADRE_OK && i < COUNT; i++) {
        training->momentum[i] = 0.9 * training->momentum[i] + gradient[i];
        training->weights[i] -= 0.01 * training->momentum[i];
        training->norm += training->weights[i] * training->weights[i];
    }
    return status;
}

static void pause_us(int64_t us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (us > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static bool acts(const job_options *options, cadre_session *session, const char *act)
{
    return options->act && strcmp(options->act, act) == 0 && (options->act_rank < 0 || options->act_rank == cadre_session_rank(session)) &&
           (options->act_attempt < 0 || options->act_attempt == cadre_session_attempt(session));
}

/* Not another step, which "OUT.spins" tells. */
static void spin(const job_options *options)
{
    char path[600];
    snprintf(path, sizeof path, "%s.spins", options->out ? options->out : "");
    FILE *file = options->out ? fopen(path, "w") : NULL;
    if (file) {
        fputs("here\n", file);
        fclose(file);
    }
    for (;;)
        pause_us(1000000);
}

/* What may go wrong at a step. CADRE_OK: go on. */
static int act_at_step(const job_options *options, cadre_session *session)
{
    if (acts(options, session, "error"))
        return cadre_fail(CADRE_EIO, "the disk is \xc3\xbc" "ber full\nof holes");
    if (acts(options, session, "silent-error"))
        return CADRE_ENOTSUP;
    if (acts(options, session, "exit0"))
        exit(0);
    if (acts(options, session, "abort"))
        abort();
    for (int i = 0; acts(options, session, "eat") && i < 400; i++) { /* MiB */
        char *food = malloc(1 << 20);
        if (food)
            memset(food, 1, 1 << 20);
    }
    if (acts(options, session, "stop"))
        raise(SIGSTOP);
    if (acts(options, session, "term-controller")) /* the wish of a batch system */
        kill(getppid(), SIGTERM);
    if (acts(options, session, "spin"))
        spin(options);
    for (int i = 0; acts(options, session, "collectives") && i < 30; i++) { /* 3 s of work without a step */
        pause_us(100000);
        if (cadre_barrier(cadre_session_comm(session)) != CADRE_OK)
            break;
    }
    if (acts(options, session, "helper") && fork() == 0) {
        for (;;)
            pause_us(1000000);
    }
    if (acts(options, session, "fork")) {
        int ended;
        pid_t child = fork();
        if (child == 0) { /* not by exit(): it ends in the middle, with memory that a checker would ask for */
            free(malloc(1 << 20));
            _exit(0);
        }
        if (child < 0 || waitpid(child, &ended, 0) != child || ended != 0)
            return cadre_fail(CADRE_EIO, "a child did not end as it should");
    }
    if (acts(options, session, "helper-error")) {
        if (fork() == 0)
            for (;;)
                pause_us(1000000);
        return CADRE_EIO;
    }
    return CADRE_OK;
}

/* A report with something wrong about it. */
static int odd_report(const job_options *options, cadre_session *session, cadre_state *state)
{
    static char name[8];
    cadre_metric many[70] = {{NULL, 0, CADRE_REDUCE_NONE, 0}};
    char names[70][8], longest[102];
    memset(longest, 'x', sizeof longest);
    longest[101] = '\0';
    if (acts(options, session, "none"))
        return cadre_report(session, CADRE_METRICS({NULL}), state);
    if (acts(options, session, "null"))
        return cadre_report(session, NULL, state);
    if (acts(options, session, "empty"))
        return cadre_report(session, CADRE_METRICS({"", 1}), state);
    if (acts(options, session, "long"))
        return cadre_report(session, CADRE_METRICS({longest, 1}), state);
    if (acts(options, session, "longest"))
        return cadre_report(session, CADRE_METRICS({longest + 1, 1}), state);
    if (acts(options, session, "latin1"))
        return cadre_report(session, CADRE_METRICS({"gr\xfc\xdf", 1}), state);
    if (acts(options, session, "newline"))
        return cadre_report(session, CADRE_METRICS({"a\nb", 1}), state);
    if (acts(options, session, "twice"))
        return cadre_report(session, CADRE_METRICS({"a", 1}, {"b", 2}, {"a", 3}), state);
    if (acts(options, session, "reduction"))
        return cadre_report(session, CADRE_METRICS({"a", 1, (cadre_reduce)17, 0}), state);
    if (acts(options, session, "reserved"))
        return cadre_report(session, CADRE_METRICS({"report", 7.5}, {"step", 8.5}, {"attempt", 9.5}), state);
    if (acts(options, session, "odd-names")) {
        snprintf(name, sizeof name, "r%d", cadre_session_rank(session));
        return cadre_report(session, CADRE_METRICS({name, 1}), state);
    }
    if (acts(options, session, "odd-reduction"))
        return cadre_report(session, CADRE_METRICS({"a", 1, cadre_session_rank(session) ? CADRE_REDUCE_SUM : CADRE_REDUCE_MAX, 0}), state);
    if (acts(options, session, "odd-steps"))
        return cadre_report_at(session, 5 + cadre_session_rank(session), CADRE_METRICS({"a", 1}), state);
    if (acts(options, session, "odd-state"))
        return cadre_report(session, CADRE_METRICS({"a", 1}), cadre_session_rank(session) ? NULL : state);
    if (acts(options, session, "backwards")) {
        int status = cadre_report_at(session, 50, CADRE_METRICS({"a", 1}), state);
        return status < 0 ? status : cadre_report_at(session, 50, CADRE_METRICS({"a", 1}), state);
    }
    if (acts(options, session, "no-report")) {
        pause_us(20000000);
        return CADRE_OK;
    }
    if (acts(options, session, "numbers"))
        return cadre_report(session,
                            CADRE_METRICS({"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}, {"tiny", 5e-324}, {"huge", -1.7976931348623157e308},
                                          {"minus zero", -0.0}, {"third", 1.0 / 3}, {"ratio of nothing", 0, CADRE_REDUCE_RATIO, 0}),
                            state);
    if (acts(options, session, "reductions")) {
        double v = cadre_session_rank(session) + 1;
        return cadre_report(session,
                            CADRE_METRICS({"none", v}, {"sum", v, CADRE_REDUCE_SUM, 0}, {"mean", v, CADRE_REDUCE_MEAN, 0}, {"min", v, CADRE_REDUCE_MIN, 0},
                                          {"max", v, CADRE_REDUCE_MAX, 0}, {"ratio", v, CADRE_REDUCE_RATIO, 2 * v},
                                          {"nan min", v == 2 ? NAN : v, CADRE_REDUCE_MIN, 0}, {"nan max", v == 1 ? NAN : v, CADRE_REDUCE_MAX, 0}),
                            state);
    }
    int count = acts(options, session, "65") ? 65 : acts(options, session, "64") ? 64 : 0;
    if (count == 0)
        return CADRE_OK;
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "m%d", i);
        many[i] = (cadre_metric){names[i], i, CADRE_REDUCE_NONE, 0};
    }
    return cadre_report(session, many, state);
}

static int epoch_of(const job_options *options, cadre_session *session, cadre_state *state, struct training *training)
{
    bool ignores = options->act && strcmp(options->act, "ignore") == 0;
    int status = CADRE_OK;
    for (int64_t at = state->step - state->epoch * options->steps; status == CADRE_OK && at < options->steps; at++) {
        status = optimise(session, training, state->step);
        state->step++;
        pause_us(options->sleep_us);
        if (status == CADRE_OK && options->stepping)
            status = cadre_step(session, state);
        if (status == CADRE_OK && state->step == options->act_step)
            status = act_at_step(options, session);
        if (status == CADRE_STOP && ignores)
            status = CADRE_OK;
    }
    return status;
}

static int train_on(const job_options *options, cadre_session *session, cadre_state *state, struct training *training)
{
    bool ignores = options->act && strcmp(options->act, "ignore") == 0;
    int status = options->restore ? cadre_session_restore(session, state) : CADRE_OK;
    while (status == CADRE_OK && state->epoch < options->epochs) {
        cadre_session_progress(session, &(cadre_progress){.epoch = state->epoch + 1, .epochs = options->epochs, .step = state->step % options->steps,
                                                          .steps = options->steps, .samples = state->step, .unit = "things"});
        status = epoch_of(options, session, state, training);
        if (status == CADRE_OK && options->act)
            status = odd_report(options, session, options->save ? state : NULL);
        if (status != CADRE_OK)
            break;
        state->epoch++;
        double score = sin((double)state->epoch * 1.3);
        status = cadre_report(session,
                              CADRE_METRICS({"loss", acts(options, session, "nan-loss") && state->epoch == 2 ? NAN : training->total, CADRE_REDUCE_MEAN, 0}, {"seen", (double)training->seen, CADRE_REDUCE_RATIO, 2},
                                            {"score", acts(options, session, "nan-score") && state->epoch % 2 ? NAN : score}),
                              options->save ? state : NULL);
        if (status == CADRE_STOP && ignores)
            status = CADRE_OK;
    }
    return status == CADRE_STOP ? CADRE_OK : status;
}

static void write_final(const job_options *options, const cadre_session *session, const struct training *training)
{
    char path[1200];
    snprintf(path, sizeof path, "%s-%d", options->final, cadre_session_rank(session));
    FILE *file = fopen(path, "w");
    if (!file || fwrite(training, sizeof *training, 1, file) != 1)
        abort();
    fclose(file);
}

/* ---- act=cover: epochs over samples that are counted, whatever becomes of the group ---- */

enum { SAMPLES = 301, BATCH = 7 };

struct cover {
    double counts[SAMPLES]; /* how often each has been trained on, by all ranks */
    int64_t consumed, resizes;
};

static int cover_epoch(const job_options *options, cadre_session *session, cadre_state *state, cadre_sampler *sampler, struct cover *cover)
{
    int64_t indices[BATCH], taken;
    int status = cadre_sampler_seek(sampler, state->epoch, cover->consumed);
    while (status == CADRE_OK && (status = cadre_sampler_next(sampler, indices, &taken)) == CADRE_OK) {
        double marks[SAMPLES] = {0};
        for (int64_t i = 0; i < taken; i++)
            marks[indices[i]] = 1;
        status = cadre_all_reduce(cadre_session_comm(session), marks, SAMPLES, CADRE_FLOAT64, CADRE_SUM);
        for (int i = 0; status == CADRE_OK && i < SAMPLES; i++)
            cover->counts[i] += marks[i];
        cover->consumed = sampler->consumed;
        state->step++;
        pause_us(options->sleep_us);
        if (status == CADRE_OK && state->step == options->act_step && options->act_attempt == cadre_session_attempt(session) &&
            options->act_rank == cadre_session_rank(session))
            raise(SIGKILL);
        if (status == CADRE_OK && cadre_step(session, state) == CADRE_STOP)
            return CADRE_OK; /* in the middle of the epoch */
    }
    if (status != CADRE_STOP)
        return status;
    state->epoch++;
    cover->consumed = 0;
    double least = cover->counts[0], most = least;
    for (int i = 0; i < SAMPLES; i++) {
        least = cover->counts[i] < least ? cover->counts[i] : least;
        most = cover->counts[i] > most ? cover->counts[i] : most;
    }
    status = cadre_report(session, CADRE_METRICS({"least", least}, {"most", most}, {"world", cadre_session_world(session)}), state);
    return status;
}

static int cover_train(const job_options *options, cadre_session *session)
{
    struct cover cover = {.resizes = 0};
    cadre_sampler sampler;
    cadre_state *state = NULL;
    int64_t shape[1] = {SAMPLES};
    int status = cadre_sampler_init(&sampler, SAMPLES, BATCH, cadre_session_rank(session), cadre_session_world(session), true, false, 3);
    if (status == CADRE_OK)
        status = cadre_state_new(&state);
    if (status == CADRE_OK)
        status = cadre_state_add_tensor(state, "counts", CADRE_STATE_F64, 1, shape, cover.counts);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "consumed", &cover.consumed);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, state);
    while (status == CADRE_OK && state->epoch < options->epochs) {
        int64_t epoch = state->epoch;
        status = cover_epoch(options, session, state, &sampler, &cover);
        if (status == CADRE_OK && state->epoch == epoch)
            break; /* asked to leave */
    }
    cadre_sampler_done(&sampler);
    cadre_state_free(state);
    return status < 0 ? status : CADRE_OK;
}

int job_resize(cadre_session *session, int before, int now, void *user)
{
    (void)session;
    (void)user;
    printf("from %d to %d workers\n", before, now);
    return CADRE_OK;
}

int job_train(cadre_session *session, const cadre_config *config, void *user)
{
    const job_options *options = user;
    if (options->act && strcmp(options->act, "cover") == 0)
        return cover_train(options, session);
    struct training training = {.random = 77u + (unsigned)cadre_session_rank(session)};
    cadre_state *state = NULL;
    for (int i = 0; i < COUNT; i++)
        training.weights[i] = cadre_config_double(config, "start", 1.0) / (i + 1);
    printf("attempt %d rank %d of %d, %d descriptors\n", cadre_session_attempt(session), cadre_session_rank(session), cadre_session_world(session),
           job_count_fds());
    int status = cadre_state_new(&state);
    for (int64_t i = 0; options->bare && i < options->epochs && status == CADRE_OK; i++)
        status = cadre_report(session, CADRE_METRICS({"loss", 1.0 / (double)(i + 1)}, {"accuracy", 0.5}), NULL);
    if (options->bare) {
        cadre_state_free(state);
        return status;
    }
    if (status == CADRE_OK)
        status = add_entries(state, &training, acts(options, session, "other-state"));
    if (status == CADRE_OK)
        status = train_on(options, session, state, &training);
    if (status == CADRE_OK && options->final && state->epoch == options->epochs)
        write_final(options, session, &training);
    cadre_state_free(state);
    return status;
}
