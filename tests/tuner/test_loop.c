/* The tuner's loop: simulated and on processes, stopped, killed and taken up again. */
#include "experiment.h"

#include "base/buffer.h"
#include "base/io.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Nine reports that get better; a function of the config alone. */
static double curve(const cadre_config *config, int64_t report)
{
    return -fabs(log10(cadre_config_double(config, "lr", 1)) + 2) - 1.0 / (double)report;
}

static int simulate(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    (void)trial;
    (void)user;
    *value = curve(config, report);
    *seconds = 1 + cadre_config_double(config, "lr", 0);
    return report == 9 ? CADRE_STOP : CADRE_OK;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const char *how = user ? user : "";
    int status = CADRE_OK;
    if (strcmp(how, "crash") == 0 && cadre_config_double(config, "lr", 0) > 1e-2)
        raise(SIGSEGV);
    if (strcmp(how, "silent") == 0)
        return CADRE_OK;
    if (strcmp(how, "error") == 0)
        return cadre_fail(CADRE_EIO, "the cable is out");
    for (int64_t report = 1; report <= 9 && status == CADRE_OK; report++) {
        if (strcmp(how, "slow") == 0)
            usleep(3000);
        status = cadre_report(session, CADRE_METRICS({"score", curve(config, report), CADRE_REDUCE_NONE, 0}), NULL);
    }
    return status < 0 ? status : CADRE_OK;
}

static const cadre_param space[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_CHOICE("kind", "a", "b"), CADRE_END};
static const cadre_asha_options stopping = {.max_t = 9, .reduction_factor = 3}, promotion = {.max_t = 9, .reduction_factor = 3, .promotion = true};
static const cadre_hyperband_options bands = {.max_t = 9};

static int fit(const char *name, cadre_tuner tuner, const char *how, cadre_tuner_result *result)
{
    cadre_trainer trainer = {.train = train, .user = (void *)(uintptr_t)how, .run = {.name = name, .storage = folder}};
    tuner.trainer = &trainer;
    tuner.metric = "score";
    tuner.space = tuner.space ? tuner.space : space;
    return cadre_tuner_fit(&tuner, result);
}

static void simulation_repeats(void **state)
{
    (void)state;
    const cadre_search searches[] = {{.name = "random"}, {.name = "tpe"}, {.name = "bohb"}, {0}};
    const cadre_scheduler schedulers[] = {{0},
                                          {&cadre_scheduler_asha, &stopping},
                                          {&cadre_scheduler_asha, &promotion},
                                          {&cadre_scheduler_median, NULL},
                                          {&cadre_scheduler_hyperband, &bands},
                                          {&cadre_scheduler_percentile, NULL}};
    for (int i = 0; i < 12; i++) {
        bool pauses = i / 2 == 2;
        cadre_tuner tuner = {.sim = simulate, .num_samples = 40, .seed = 3, .max_concurrent = 3, .search = searches[(i + i / 4) % 4], .scheduler = schedulers[i / 2]};
        char first[8], second[8];
        snprintf(first, sizeof first, "a%d", i);
        snprintf(second, sizeof second, "b%d", i);
        cadre_tuner_result result;
        assert_int_equal(fit(first, tuner, NULL, &result), CADRE_OK);
        assert_int_equal(result.trials, 40);
        assert_int_equal(result.complete + result.pruned, 40);
        assert_true(result.best >= 0);
        assert_true(i / 2 == 0 ? result.pruned == 0 : result.pruned > 0);
        cadre_config_free(result.best_config);
        char *once = strdup(trials_of(first));
        /* In two parts: taken up again, it suggests and decides as if it had not stopped. One at a time, for what runs at the end of the first
         * part would be told later. */
        tuner.max_concurrent = 1;
        assert_int_equal(fit(second, tuner, NULL, NULL), CADRE_OK);
        char *undivided = strdup(trials_of(second));
        snprintf(second, sizeof second, "c%d", i);
        tuner.num_samples = 17;
        assert_int_equal(fit(second, tuner, NULL, NULL), CADRE_OK);
        tuner.num_samples = 40;
        tuner.resume = CADRE_TUNE_RESUME;
        assert_int_equal(fit(second, tuner, NULL, NULL), CADRE_OK);
        if (!pauses) /* at the end of its first part promotion gives up what would be promoted later */
            assert_string_equal(trials_of(second), undivided);
        free(undivided);
        free(once);
    }
}

/* Who suggests, and why, stands with the first trial that it suggested; and the experiment is taken up as any other. */
static void the_choice_of_auto_is_in_the_store(void **state)
{
    (void)state;
    const cadre_param numbers[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_UNIFORM("momentum", 0, 1), CADRE_END};
    cadre_tuner tuner = {.sim = simulate, .space = numbers, .num_samples = 9, .seed = 3, .max_concurrent = 1, .search = CADRE_AUTO(.handover = 12)};
    assert_int_equal(fit("auto", tuner, NULL, NULL), CADRE_OK);
    tuner.num_samples = 20;
    tuner.resume = CADRE_TUNE_RESUME;
    assert_int_equal(fit("auto", tuner, NULL, NULL), CADRE_OK);
    static const char query[] = "SELECT json_extract(value_json, '$.trial') || ': ' || json_extract(value_json, '$.note') FROM cadre_events "
                                "WHERE kind = 'ask' AND json_extract(value_json, '$.note') IS NOT NULL ORDER BY sequence";
    const char *rows = rows_of("auto", query), *second = strchr(rows, '\n');
    assert_true(strncmp(rows, "0: gp, after 0 results: ", 24) == 0);
    assert_non_null(second);
    assert_true(strncmp(second + 1, "12: cmaes, after 12 results: ", 29) == 0 && !strchr(second + 1, '\n'));
}

/* The searcher and what it was told to expect stand in the store: a later life goes on with them. */
static void the_default_is_kept(void **state)
{
    (void)state;
    static const char search[] = "SELECT value_json FROM cadre_experiments WHERE key = 'search'";
    cadre_tuner tuner = {.sim = simulate, .num_samples = 14, .seed = 3, .max_concurrent = 1, .scheduler = {&cadre_scheduler_asha, &stopping}};
    assert_int_equal(fit("whole", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(rows_of("whole", search), "{\"name\":\"auto\",\"trials\":14,\"parallel\":1,\"stops_early\":true}");
    char *whole = strdup(trials_of("whole"));
    tuner.num_samples = 5;
    assert_int_equal(fit("parts", tuner, NULL, NULL), CADRE_OK);
    tuner.num_samples = 14;
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.search = CADRE_SEARCH_RANDOM;
    assert_int_equal(fit("parts", tuner, NULL, NULL), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "was begun with searcher auto, this is random"));
    tuner.search = (cadre_search){0};
    assert_int_equal(fit("parts", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(trials_of("parts"), whole);
    assert_string_equal(rows_of("parts", search), "{\"name\":\"auto\",\"trials\":5,\"parallel\":1,\"stops_early\":true}");
    free(whole);
}

/* An experiment of a time when the default was random search, and nothing said so. */
static void an_old_default_goes_on(void **state)
{
    (void)state;
    cadre_tuner tuner = {.sim = simulate, .num_samples = 20, .seed = 3, .max_concurrent = 1, .search = CADRE_SEARCH_RANDOM};
    assert_int_equal(fit("whole", tuner, NULL, NULL), CADRE_OK);
    char *whole = strdup(trials_of("whole"));
    tuner.num_samples = 13;
    assert_int_equal(fit("old", tuner, NULL, NULL), CADRE_OK);
    rows_of("old", "DELETE FROM cadre_experiments WHERE key = 'search'");
    tuner.num_samples = 20;
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.search = (cadre_search){0};
    assert_int_equal(fit("old", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(trials_of("old"), whole);
    free(whole);
}

/* The searcher goes on learning from what running trials report when a later life has no scheduler: the life after that must tell it the same. */
static void a_scheduler_that_is_dropped(void **state)
{
    (void)state;
    cadre_tuner tuner = {.sim = simulate, .num_samples = 14, .seed = 3, .max_concurrent = 3, .scheduler = {&cadre_scheduler_asha, &stopping}};
    assert_int_equal(fit("a", tuner, NULL, NULL), CADRE_OK);
    tuner.scheduler = (cadre_scheduler){0};
    tuner.resume = CADRE_TUNE_RESUME;
    for (tuner.num_samples = 24; tuner.num_samples <= 44; tuner.num_samples += 10)
        if (fit("a", tuner, NULL, NULL) != CADRE_OK)
            fail_msg("%s", cadre_error_message());
}

static void processes_do_as_simulated(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 12, .seed = 5, .cores = 1};
    const cadre_scheduler schedulers[] = {{0}, {&cadre_scheduler_asha, &stopping}, {&cadre_scheduler_asha, &promotion}};
    for (int i = 0; i < 3; i++) {
        char real[8], simulated[8];
        snprintf(real, sizeof real, "r%d", i);
        snprintf(simulated, sizeof simulated, "s%d", i);
        tuner.scheduler = schedulers[i];
        tuner.sim = NULL;
        assert_int_equal(fit(real, tuner, NULL, NULL), CADRE_OK);
        char *kept = strdup(trials_of(real));
        tuner.sim = simulate;
        assert_int_equal(fit(simulated, tuner, NULL, NULL), CADRE_OK);
        assert_string_equal(kept, trials_of(simulated));
        free(kept);
    }
}

static void failures_are_told(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.num_samples = 8, .seed = 1};
    assert_int_equal(fit("silent", tuner, "silent", &result), CADRE_ETRAIN);
    assert_int_equal(result.failed, 8);
    assert_non_null(strstr(cadre_error_message(), "no trial finished"));
    assert_int_equal(fit("crash", tuner, "crash", &result), CADRE_OK);
    assert_true(result.failed > 0 && result.complete > 0);
    cadre_config_free(result.best_config);
    tuner.fail_fast = true;
    assert_int_equal(fit("fast", tuner, "error", &result), CADRE_ETRAIN);
    assert_non_null(strstr(cadre_error_message(), "the cable is out"));
    assert_true(result.trials < 8);
}

/* One timeline of all trials, and what was there before is gone. */
static void a_timeline(void **state)
{
    (void)state;
    char path[128], title[32];
    base_buffer text = {0};
    snprintf(path, sizeof path, "%s/trace.json", folder);
    FILE *old = fopen(path, "w");
    assert_non_null(old);
    fputs("of another run", old);
    fclose(old);
    cadre_trainer trainer = {.train = train, .run = {.name = "traced", .storage = folder, .timeline = path}};
    cadre_tuner tuner = {.trainer = &trainer, .metric = "score", .space = space, .num_samples = 3, .seed = 1};
    assert_int_equal(cadre_tuner_fit(&tuner, NULL), CADRE_OK);
    assert_int_equal(base_read_file(path, 1 << 20, &text), CADRE_OK);
    json_t *events = json_loadb((const char *)text.data, text.length, 0, NULL);
    assert_true(json_is_array(events));
    json_decref(events);
    for (int trial = 0; trial < 3; trial++) {
        snprintf(title, sizeof title, "\"trial-%05d, rank 0, ", trial);
        assert_non_null(memmem(text.data, text.length, title, strlen(title)));
    }
    base_buffer_free(&text);
    assert_int_equal(cadre_tuner_fit(&tuner, NULL), CADRE_EEXIST); /* refused, it leaves what is there */
    assert_int_equal(base_read_file(path, 1 << 20, &text), CADRE_OK);
    assert_non_null(memmem(text.data, text.length, "trial-00002", 11));
    base_buffer_free(&text);
    trainer.run.timeline = folder;
    assert_int_equal(cadre_tuner_fit(&tuner, NULL), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "is not a plain file"));
}

/* ---- grids: a sample is a walk over all combinations ---- */

static const cadre_param grids[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_GRID("kind", "a", "b"), CADRE_GRID_INT("n", 1, 2, 3), CADRE_END};

/* How often each combination was tried, in order, after so many points of the user's own. */
static const char *combinations(const char *name)
{
    return rows_of(name, "SELECT DISTINCT count(*) || ' of ' || (SELECT count(DISTINCT trial_id) FROM trials) FROM (SELECT group_concat(param_value) AS c FROM "
                         "(SELECT * FROM trial_params WHERE param_name IN ('kind', 'n') ORDER BY param_name) GROUP BY trial_id) GROUP BY c ORDER BY 1");
}

static void grids_are_walked(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.sim = simulate, .space = grids, .max_concurrent = 2};
    assert_int_equal(fit("once", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("once"), "1 of 6");
    tuner.num_samples = 3;
    assert_int_equal(fit("thrice", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("thrice"), "3 of 18");
    assert_string_equal(rows_of("thrice", "SELECT count(DISTINCT param_value) FROM trial_params WHERE param_name = 'lr'"), "18"); /* drawn anew */
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.num_samples = 4;
    assert_int_equal(fit("thrice", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("thrice"), "4 of 24");

    tuner = (cadre_tuner){.sim = simulate, .space = grids, .search = {.name = "random", .repeats = 2}};
    assert_int_equal(fit("repeats", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("repeats"), "2 of 12");
    cadre_config *point = NULL;
    assert_int_equal(cadre_config_from_json("{\"lr\": 0.02, \"kind\": \"a\", \"n\": 1}", &point), CADRE_OK);
    tuner.search = (cadre_search){.points = (const cadre_config *const[]){point, NULL}};
    assert_int_equal(fit("points", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("points"), "1 of 7\n2 of 7"); /* the point, and then all of the grid */
    cadre_config_free(point);

    tuner = (cadre_tuner){.sim = simulate, .space = grids, .num_samples = 2, .search = CADRE_GRID_SEARCH(.resolution = 2)};
    assert_int_equal(fit("grid", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("grid"), "4 of 24");
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.num_samples = 1; /* fewer than there are: none more */
    assert_int_equal(fit("grid", tuner, NULL, NULL), CADRE_OK);
    assert_string_equal(combinations("grid"), "4 of 24");
    tuner.resume = CADRE_TUNE_NEW;
    tuner.num_samples = -1;
    tuner.stop = (cadre_stop){.time_budget_s = 300};
    assert_int_equal(fit("endless", tuner, NULL, &result), CADRE_OK);
    assert_true(result.trials > 30);
    cadre_config_free(result.best_config);

    tuner = (cadre_tuner){.sim = simulate, .space = grids, .num_samples = INT64_MAX / 3};
    assert_int_equal(fit("large", tuner, NULL, NULL), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "walks of a grid of 6 combinations"));
    tuner.space = (cadre_param[]){CADRE_RANDINT("a", 0, 2000), CADRE_RANDINT("b", 0, 2000), CADRE_END};
    tuner.search = CADRE_SEARCH_GRID;
    assert_int_equal(fit("large", tuner, NULL, NULL), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "the grid has more than 1000000 combinations: take values out"));
}

static void wrong_options(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 4, .sim = simulate};
    assert_int_equal(fit("x", tuner, NULL, NULL), CADRE_OK);
    assert_int_equal(fit("x", tuner, NULL, NULL), CADRE_EEXIST);
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.space = (cadre_param[]){CADRE_LOGUNIFORM("lr", 1e-4, 1.0), CADRE_CHOICE("kind", "a", "b"), CADRE_END};
    assert_int_equal(fit("x", tuner, NULL, NULL), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "lr"));
    tuner.space = NULL;
    tuner.seed = 9;
    assert_int_equal(fit("x", tuner, NULL, NULL), CADRE_EINVAL);
    assert_int_equal(fit("absent", tuner, NULL, NULL), CADRE_ENOENT);
    assert_int_equal(fit("y", (cadre_tuner){.num_samples = -1, .sim = simulate}, NULL, NULL), CADRE_EINVAL);
    assert_int_equal(fit("y", (cadre_tuner){.cores = 1, .cores_per_trial = 2}, NULL, NULL), CADRE_EINVAL);
    /* The trainer's own options are looked at before any trial is, too. */
    cadre_trainer odd = {.train = train, .run = {.name = "z", .storage = folder}, .scaling = {.num_workers = 2, .logical_workers = 3}};
    assert_int_equal(cadre_tuner_fit((&(cadre_tuner){.trainer = &odd, .metric = "score", .space = space}), NULL), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "scaling.logical_workers is 3"));
}

/* kill -9 of the controller at any moment, then resume: the same trials as without. */
static void survives_kills(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 60, .seed = 11, .cores = 2, .search = CADRE_SEARCH_RANDOM};
    assert_int_equal(fit("calm", tuner, NULL, NULL), CADRE_OK);
    char *calm = strdup(trials_of("calm"));
    int kills = 0, status = -1;
    for (int life = 0; life < 60; life++) {
        tuner.resume = life ? CADRE_TUNE_RESUME : CADRE_TUNE_NEW;
        pid_t pid = fork();
        if (pid == 0) {
            char database[160];
            snprintf(database, sizeof database, "%s/rough/cadre.db", folder);
            if (life && !base_exists(database)) /* killed before there was a store */
                tuner.resume = CADRE_TUNE_NEW;
            int result = fit("rough", tuner, "slow", NULL);
            if (result == CADRE_ENOENT || (result != CADRE_OK && life == 0))
                _exit(2);
            _exit(result == CADRE_OK ? 0 : 1);
        }
        usleep((useconds_t)(20000 + life * 7919 % 90000));
        if (life < 50)
            kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        kills += WIFSIGNALED(status);
        if (!WIFSIGNALED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
    }
    assert_true(kills > 3);
    assert_string_equal(trials_of("rough"), calm);
    free(calm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(simulation_repeats, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_choice_of_auto_is_in_the_store, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_default_is_kept, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(an_old_default_goes_on, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_scheduler_that_is_dropped, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(processes_do_as_simulated, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(failures_are_told, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_timeline, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(grids_are_walked, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(wrong_options, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(survives_kills, make_folder, remove_folder),
    };
    return cmocka_run_group_tests_name("tuner: loop", tests, NULL, NULL);
}
