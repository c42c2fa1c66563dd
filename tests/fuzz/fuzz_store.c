/*
 * Stores whose rows, tables and bytes somebody has changed by hand, and all that reads a store: the command line, a tuner that takes up its
 * experiment (and so every searcher and scheduler, which are told the history), a trainer that takes up its run. Each answers with a line or goes
 * on, and what lies outside the run's directory stays. The first byte says whose store it is, the second who reads it, the rest what is changed.
 */
#include "base/buffer.h"
#include "base/io.h"
#include "cadre/cadre.h"
#include "cli/cli.h"
#include "edit.h"
#include "folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int cadre_main(int argc, char **argv); /* cli/main.c */

static char path[128];

/* ---- the experiments ----------------------------------------------------------------------------------------------- */

static const cadre_param space[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_RANDINT("width", 1, 9), CADRE_CHOICE("optimizer", "sgd", "adam"),
                                    CADRE_WHEN("optimizer", "sgd", CADRE_UNIFORM("momentum", 0, 1)), CADRE_CONSTANT_INT("epochs", 4), CADRE_END};

/* Trial 9 fails, and with it the tuner that made the template. */
static int simulate(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    *value = fabs(log10(cadre_config_double(config, "lr", 1)) + 2) + 1.0 / (double)(report + trial % 3);
    *seconds = 1 + (double)(trial % 4);
    if (trial == 9 && report == 2 && !user)
        return cadre_fail(CADRE_EIO, "the cable is out");
    return report >= 4 ? CADRE_STOP : CADRE_OK;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    double weight = 1;
    int64_t epoch = 0;
    cadre_state *state = NULL;
    int status = cadre_state_new(&state);
    (void)config;
    if (status == CADRE_OK)
        status = cadre_state_add_double(state, "weight", &weight);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "epoch", &epoch);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, state);
    for (int i = 0; status == CADRE_OK && i < 2; i++) {
        epoch++;
        status = cadre_report(session, CADRE_METRICS({"loss", 1 / (1 + weight * (double)epoch), CADRE_REDUCE_NONE, 0}), state);
    }
    cadre_state_free(state);
    return status == CADRE_OK && !user ? cadre_fail(CADRE_EIO, "the cable is out") : status;
}

/* Which searcher, and which scheduler with it; the last is a trainer's run. */
static const char *const searchers[] = {"random", "grid", "tpe", "bohb", "gp", "sobol", "halton", "cmaes", "auto", NULL};
enum { TEMPLATES = sizeof searchers / sizeof *searchers };
static base_buffer templates[TEMPLATES];

static int run_trainer(void *ready)
{
    cadre_trainer trainer = {.train = train, .user = ready,
                             .scaling = {.launcher = CADRE_LAUNCH_INPROC, .backend = "self"},
                             .run = {.name = "run", .storage = folder, .resume = ready ? CADRE_RESUME_LAST : CADRE_RESUME_NEW},
                             .checkpoint = {.keep = 2, .score_metric = "loss", .score_mode = CADRE_MIN, .write_behind = -1}};
    return cadre_trainer_fit(&trainer, NULL);
}

static int run_tuner(int which, cadre_tuner_resume resume, void *ready)
{
    cadre_trainer trainer = {.run = {.name = "run", .storage = folder}};
    const cadre_scheduler schedulers[] = {{NULL, NULL}, CADRE_ASHA(.max_t = 4, .reduction_factor = 2, .promotion = true), CADRE_HYPERBAND(.max_t = 4, .reduction_factor = 2),
                                          CADRE_PERCENTILE(.n_startup_trials = 2), CADRE_MEDIAN(.min_samples_required = 2)};
    cadre_tuner tuner = {.trainer = &trainer, .metric = "loss", .mode = CADRE_MIN, .space = space, .num_samples = ready ? 13 : 12, .max_concurrent = 3,
                         .search = {.name = searchers[which]}, .scheduler = schedulers[which % 5], .cores = 3, .fail_fast = !ready, .resume = resume,
                         .sim = simulate, .sim_user = ready};
    if (strcmp(searchers[which], "grid") == 0) {
        tuner.search.json = "{\"resolution\": 2}";
        tuner.num_samples = ready ? 2 : 1; /* walks of twelve */
    } else if (strcmp(searchers[which], "tpe") == 0 || strcmp(searchers[which], "bohb") == 0)
        tuner.search.json = "{\"startup\": 4}";
    cadre_tuner_result result = {0};
    int status = cadre_tuner_fit(&tuner, &result);
    cadre_config_free(result.best_config);
    return status;
}

static void make_template(int which)
{
    char directory[128];
    snprintf(directory, sizeof directory, "%s/run", folder);
    must(base_remove_tree(directory) == CADRE_OK);
    if (searchers[which])
        run_tuner(which, CADRE_TUNE_NEW, NULL);
    else
        run_trainer(NULL);
    base_buffer_free(&templates[which]);
    must(base_read_file(path, 64 << 20, &templates[which]) == CADRE_OK);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    make_folder();
    snprintf(path, sizeof path, "%s/run/cadre.db", folder);
    must(freopen("/dev/null", "w", stdout) != NULL);
    for (int i = 0; i < TEMPLATES; i++)
        make_template(i);
    return 0;
}

/* ---- who reads ----------------------------------------------------------------------------------------------------- */

static void run_command(int which)
{
    static const char *const commands[][8] = {
        {"cadre", "ls", folder},
        {"cadre", "ls", folder, "--json"},
        {"cadre", "show", path},
        {"cadre", "show", path, "--json"},
        {"cadre", "show", path, "--events", "--trial", "1", "--all"},
        {"cadre", "show", path, "--trial", "3", "--last", "0", "--json"},
        {"cadre", "show", path, "--trial", "0", "--last", "0"},
        {"cadre", "best", path},
        {"cadre", "best", path, "--json"},
        {"cadre", "best", path, "--yaml", "--trial", "2"},
        {"cadre", "export", path},
        {"cadre", "export", path, "--format", "jsonl"},
        {"cadre", "logs", path},
    };
    char *words[9] = {0};
    int count = 0;
    for (const char *const *word = commands[which % (int)(sizeof commands / sizeof *commands)]; count < 8 && word[count]; count++)
        words[count] = (char *)(uintptr_t)word[count];
    int code = cadre_main(count, words);
    must(code == CLI_DONE || code == CLI_FAILED);
}

static void run_outcome(void)
{
    char junit[128], summary[128];
    snprintf(junit, sizeof junit, "%s/junit", folder);
    snprintf(summary, sizeof summary, "%s/summary", folder);
    cli_outcome outcome = {.junit = junit, .summary = summary, .has_below = true, .below = 0.5};
    cli_outcome_write(&outcome, "run", path);
}

/* A refusal says why, in one line. */
static void check(int status)
{
    if (status < 0)
        must(*cadre_error_message() && !strchr(cadre_error_message(), '\n'));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    fuzz_input in = {bytes, nbytes};
    char checkpoint[160];
    int which = fuzz_one_of(&in, TEMPLATES);
    unsigned reader = fuzz_byte(&in);
    snprintf(checkpoint, sizeof checkpoint, "%s/run/trial-00000/checkpoint-000002", folder);
    if (!searchers[which] && !base_exists(checkpoint))
        make_template(which); /* the input before took it away, as it may */
    edit_store(&in, templates[which].data, templates[which].length, path);
    if (reader % 4 == 0)
        run_command((int)reader / 4);
    else if (reader == 1)
        run_outcome();
    else if (searchers[which])
        check(run_tuner(which, CADRE_TUNE_RESUME + reader / 4 % 3, &in));
    else
        check(run_trainer(&in));
    static const char *const beside[] = {"-wal", "-journal", "-shm", ".lock"};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        char other[160];
        snprintf(other, sizeof other, "%s%s", path, beside[i]);
        unlink(other);
    }
    must(base_exists(precious));
    return 0;
}
