/* What the loop does when things go otherwise than planned: failed trials tried again, trials that do not do as they are told, experiments that end early. */
#include "experiment.h"

#include "base/clock.h"
#include "base/io.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const cadre_param space[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_CHOICE("kind", "a", "b"), CADRE_END};

/* What the trials of a test do; zero: nine reports and no more. Changed between two lives of an experiment. */
static struct {
    bool bad_crashes;      /* a learning rate above 0.01 fails at its 5th report */
    bool saves;            /* every report has a checkpoint */
    bool stubborn;         /* three more reports after it was told to stop */
    bool deaf;             /* does not leave when it is told to */
    bool kills_controller; /* as soon as one is told to stop before its last report */
    bool first_is_slow;    /* trial 0 takes its time to leave */
    bool kills_zygote;
    bool ends_nan;         /* a learning rate above 0.01: the last value is no number */
    bool every_other;      /* the metric is in every other report only */
    bool silent;           /* reports nothing for ten seconds */
    double pause_s;        /* a report takes */
    int max_failures;
    int64_t log;           /* of trial and report numbers as they were made: a file descriptor, 0: none */
    pid_t controller;
} plan;

static double curve(const cadre_config *config, int64_t report) { return -fabs(log10(cadre_config_double(config, "lr", 1)) + 2) - 1.0 / (double)report; }

static bool is_bad(const cadre_config *config) { return cadre_config_double(config, "lr", 0) > 1e-2; }

static int simulate(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    int64_t *first = user; /* by trial: the first report that it was asked for */
    *value = curve(config, report);
    *seconds = 1;
    if (first && !first[trial])
        first[trial] = report;
    if (plan.bad_crashes && is_bad(config) && report == 5)
        return cadre_fail(CADRE_EIO, "the cable is out");
    return report == 9 ? CADRE_STOP : CADRE_OK;
}

static int act(cadre_session *session, const cadre_config *config, int64_t report, cadre_state *state)
{
    if (plan.bad_crashes && is_bad(config) && report == 5)
        return cadre_fail(CADRE_EIO, "the cable is out");
    if (plan.pause_s > 0)
        base_sleep_ns((int64_t)(plan.pause_s * 1e9));
    double value = plan.ends_nan && is_bad(config) && report == 9 ? NAN : curve(config, report);
    const char *name = plan.every_other && report % 2 ? "other" : "score";
    return cadre_report(session, CADRE_METRICS({name, value, CADRE_REDUCE_NONE, 0}), plan.saves ? state : NULL);
}

static int told_to_stop(cadre_session *session, const cadre_config *config, int64_t report)
{
    if (plan.first_is_slow && strstr(cadre_session_directory(session), "/trial-00000"))
        base_sleep_ns(400000000);
    if (plan.kills_controller && report < 9) {
        base_sleep_ns(100000000); /* the decision is committed by then */
        kill(plan.controller, SIGKILL);
        base_sleep_ns(10000000000);
    }
    while (plan.deaf)
        base_sleep_ns(10000000);
    for (int64_t more = 1; plan.stubborn && more <= 3; more++)
        if (cadre_report(session, CADRE_METRICS({"score", curve(config, report + more), CADRE_REDUCE_NONE, 0}), NULL) < 0)
            return CADRE_EIO;
    return CADRE_OK;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    int64_t done = 0;
    cadre_state *state = NULL;
    (void)user;
    if (plan.kills_zygote) {
        kill(getppid(), SIGKILL);
        base_sleep_ns(10000000000);
    }
    for (int i = 0; plan.silent && i < 1000; i++) {
        if (cadre_step(session, NULL) != CADRE_OK)
            return CADRE_OK;
        base_sleep_ns(10000000);
    }
    int status = cadre_state_new(&state);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "done", &done);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, state);
    if (status == CADRE_OK && plan.log)
        dprintf((int)plan.log, "%s from %lld\n", strrchr(cadre_session_directory(session), '/') + 1, (long long)done + 1);
    while (status == CADRE_OK && done < 9) {
        done++;
        status = act(session, config, done, state);
    }
    if (status == CADRE_STOP)
        status = told_to_stop(session, config, done);
    cadre_state_free(state);
    return status;
}

static int fit(const char *name, cadre_tuner tuner, cadre_tuner_result *result)
{
    cadre_trainer trainer = {.train = train, .run = {.name = name, .storage = folder, .progress = CADRE_PROGRESS_NONE}, .failure = {.grace_s = 0.3, .max_failures = plan.max_failures}};
    cadre_tuner_result own;
    tuner.trainer = &trainer;
    tuner.metric = "score";
    tuner.space = tuner.space ? tuner.space : space;
    plan.controller = getpid();
    int status = cadre_tuner_fit(&tuner, result ? result : &own);
    cadre_config_free(result ? result->best_config : own.best_config);
    return status;
}

static int begin(void **state)
{
    memset(&plan, 0, sizeof plan);
    return make_folder(state);
}

#define COUNT_FAILED "SELECT count(*) FROM trials WHERE state = 'FAIL'"

/* ---- failed trials tried again ------------------------------------------------------------------------------------------------- */

static void check_retries(const char *name, int64_t failed, int64_t samples)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%lld", (long long)failed);
    assert_string_equal(rows_of(name, COUNT_FAILED), expected);
    /* Each retry has the config of its trial, and says whose it is as Optuna does. */
    assert_string_equal(rows_of(name, "SELECT count(*) FROM trial_system_attributes h JOIN trials t USING (trial_id) JOIN trials f ON "
                                      "json_extract(h.value_json, '$[#-1]') = f.number WHERE h.\"key\" = 'retry_history' AND f.state = 'FAIL' AND "
                                      "(SELECT group_concat(param_value) FROM trial_params p WHERE p.trial_id = t.trial_id) = "
                                      "(SELECT group_concat(param_value) FROM trial_params p WHERE p.trial_id = f.trial_id)"),
                        expected);
    snprintf(expected, sizeof expected, "%lld", (long long)(failed + samples));
    assert_string_equal(rows_of(name, "SELECT count(*) FROM trials"), expected);
}

static void simulated_retries(void **state)
{
    (void)state;
    int64_t first[64] = {0};
    cadre_tuner tuner = {.sim = simulate, .sim_user = first, .num_samples = 12, .seed = 3, .max_concurrent = 3, .search = CADRE_SEARCH_TPE};
    cadre_tuner_result result;
    plan.bad_crashes = true;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    int64_t failed = result.failed;
    assert_true(failed > 1 && failed < 12);

    tuner.resume = CADRE_TUNE_RESUME_ERRORED; /* still broken: each is tried once, not for ever */
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_int_equal(result.trials, 12 + failed);
    assert_int_equal(result.failed, 2 * failed);
    for (int64_t i = 12; i < 12 + failed; i++)
        assert_int_equal(first[i], 5);

    plan.bad_crashes = false;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK); /* the retries are tried again, not the first ones a second time */
    assert_int_equal(result.trials, 12 + 2 * failed);
    assert_int_equal(result.complete, 12);
    check_retries("a", 2 * failed, 12);
    assert_string_equal(rows_of("a", "SELECT max(json_array_length(value_json)) FROM trial_system_attributes WHERE \"key\" = 'retry_history'"), "2");
    assert_string_equal(rows_of("a", "SELECT DISTINCT count(*) FROM trial_intermediate_values JOIN trials USING (trial_id) WHERE state = 'COMPLETE' GROUP BY trial_id"),
                        "9"); /* with what was inherited */

    assert_int_equal(fit("a", tuner, &result), CADRE_OK); /* nothing has failed since */
    assert_int_equal(result.trials, 12 + 2 * failed);
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.num_samples = 20; /* retries are no samples */
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_int_equal(result.trials, 20 + 2 * failed);
    assert_int_equal(result.complete, 20);
}

static void simulated_restarts(void **state)
{
    (void)state;
    int64_t first[64] = {0};
    cadre_tuner tuner = {.sim = simulate, .sim_user = first, .num_samples = 12, .seed = 3, .scheduler = CADRE_ASHA(.max_t = 9, .reduction_factor = 2)};
    cadre_tuner_result result;
    plan.bad_crashes = true;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    int64_t failed = result.failed;
    assert_true(failed > 0);
    plan.bad_crashes = false;
    tuner.resume = CADRE_TUNE_RESTART_ERRORED;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    for (int64_t i = 12; i < 12 + failed; i++)
        assert_int_equal(first[i], 1);
    assert_int_equal(result.failed, failed);
    assert_int_equal(result.complete + result.pruned, 12);
    check_retries("a", failed, 12);
}

/* What each trial began from, by its trials' directories; the file is read and emptied. */
static const char *began(FILE *log)
{
    static char text[4096];
    rewind(log);
    size_t length = fread(text, 1, sizeof text - 1, log);
    text[length] = '\0';
    assert_int_equal(ftruncate(fileno(log), 0), 0);
    rewind(log);
    return text;
}

static int64_t count_lines(const char *text, const char *end)
{
    int64_t found = 0;
    for (; (text = strstr(text, end)); text++)
        found++;
    return found;
}

static void retries_on_processes(void **state)
{
    (void)state;
    FILE *log = tmpfile();
    cadre_tuner tuner = {.num_samples = 8, .seed = 3, .cores = 1};
    cadre_tuner_result result;
    plan.log = fileno(log);
    plan.bad_crashes = plan.saves = true;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    int64_t failed = result.failed;
    assert_true(failed > 0 && failed < 8);
    began(log);
    plan.bad_crashes = false;
    tuner.resume = CADRE_TUNE_RESUME_ERRORED;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_int_equal(count_lines(began(log), " from 5\n"), failed);
    assert_int_equal(result.complete, 8);
    check_retries("a", failed, 8);
    assert_string_equal(rows_of("a", "SELECT DISTINCT count(*) FROM cadre_reports JOIN trials USING (trial_id) WHERE state = 'COMPLETE' GROUP BY trial_id"), "9");

    plan.bad_crashes = true;
    tuner.resume = CADRE_TUNE_NEW;
    assert_int_equal(fit("b", tuner, &result), CADRE_OK);
    began(log);
    plan.bad_crashes = false;
    tuner.resume = CADRE_TUNE_RESTART_ERRORED;
    assert_int_equal(fit("b", tuner, &result), CADRE_OK);
    const char *text = began(log);
    assert_int_equal(count_lines(text, " from 1\n"), failed);
    assert_int_equal(count_lines(text, "\n"), failed);
    check_retries("b", failed, 8);
    fclose(log);
}

/* Run it in a process of its own and kill that after so long; the wait status. Half a second and more counts from when its first trial has begun:
 * a machine with much else to do takes longer to come so far. */
static int fit_for(const char *name, cadre_tuner tuner, int64_t ms, int signal_number)
{
    int status;
    char begun[200];
    snprintf(begun, sizeof begun, "%s/%s/trial-00000/rank0.log", folder, name);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fit(name, tuner, NULL) == CADRE_OK ? 0 : 1);
    for (int i = 0; ms >= 500 && i < 6000 && !base_exists(begun); i++)
        base_sleep_ns(10000000);
    if (ms >= 0) {
        base_sleep_ns(ms * 1000000);
        kill(pid, signal_number);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Killed at any moment of the retries and taken up without a new request: the same trials. */
static void retries_survive_kills(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 12, .seed = 3, .cores = 1};
    plan.saves = plan.bad_crashes = true;
    assert_int_equal(fit("calm", tuner, NULL), CADRE_OK);
    assert_int_equal(fit("rough", tuner, NULL), CADRE_OK);
    plan.bad_crashes = false;
    plan.pause_s = 0.03; /* most of a life is sleep, so that it is killed on fast machines, too */
    tuner.resume = CADRE_TUNE_RESUME_ERRORED;
    assert_int_equal(fit("calm", tuner, NULL), CADRE_OK);
    char *calm = strdup(trials_of("calm"));
    int kills = 0;
    for (int life = 0, status = -1; status != 0; life++) {
        status = fit_for("rough", tuner, life < 12 ? 25 + 13 * life : -1, SIGKILL);
        kills += WIFSIGNALED(status);
        assert_true(WIFSIGNALED(status) || status == 0);
        if (strcmp(rows_of("rough", "SELECT count(*) > 0 FROM cadre_events WHERE kind = 'retry_failed'"), "1") == 0)
            tuner.resume = CADRE_TUNE_RESUME;
    }
    assert_true(kills > 2);
    assert_string_equal(trials_of("rough"), calm);
    free(calm);
}

/* ---- trials that do not do as they are told ---------------------------------------------------------------------------------------- */

static const cadre_asha_options stopping = {.max_t = 9, .reduction_factor = 3};

static void late_reports_change_nothing(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 12, .seed = 5, .cores = 1, .scheduler = {&cadre_scheduler_asha, &stopping}};
    assert_int_equal(fit("calm", tuner, NULL), CADRE_OK);
    char *calm = strdup(trials_of("calm"));
    assert_non_null(strstr(calm, "PRUNED"));
    plan.stubborn = true;
    assert_int_equal(fit("stubborn", tuner, NULL), CADRE_OK);
    assert_string_equal(trials_of("stubborn"), calm);
    free(calm);
}

static void the_deaf_are_made_to_leave(void **state)
{
    (void)state;
    cadre_tuner_result result;
    plan.deaf = true;
    assert_int_equal(fit("a", (cadre_tuner){.num_samples = 2, .stop = {.max_iterations = 2}}, &result), CADRE_OK);
    assert_int_equal(result.complete, 2);
}

/* The controller is killed when a trial has been told to stop and has not left yet: told once is told. */
static void told_is_told(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 6, .seed = 5, .cores = 1, .scheduler = {&cadre_scheduler_asha, &stopping}};
    assert_int_equal(fit("calm", tuner, NULL), CADRE_OK);
    char *calm = strdup(trials_of("calm"));
    plan.kills_controller = true;
    assert_true(WIFSIGNALED(fit_for("rough", tuner, -1, 0)));
    plan.kills_controller = false;
    tuner.resume = CADRE_TUNE_RESUME;
    assert_int_equal(fit("rough", tuner, NULL), CADRE_OK);
    assert_string_equal(trials_of("rough"), calm);
    free(calm);
}

static void a_last_value_that_is_no_number(void **state)
{
    (void)state;
    cadre_tuner_result result;
    plan.ends_nan = true;
    assert_int_equal(fit("a", (cadre_tuner){.num_samples = 8, .seed = 3}, &result), CADRE_OK);
    char failed[32];
    snprintf(failed, sizeof failed, "%lld", (long long)result.failed);
    assert_true(result.failed > 0);
    assert_string_equal(rows_of("a", COUNT_FAILED), failed);
    assert_string_equal(rows_of("a", "SELECT DISTINCT reason FROM cadre_trials WHERE reason != ''"), "its last value of \"score\" is not a number");
}

/* Reports without the metric are counted, or one that is made again would be heard twice. */
static void the_metric_in_some_reports(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 1, .cores = 1, .scheduler = CADRE_MEDIAN(.grace_period = 1)};
    plan.every_other = true;
    plan.pause_s = 0.3;
    assert_true(WIFSIGNALED(fit_for("a", tuner, 1400, SIGKILL))); /* half way */
    tuner.resume = CADRE_TUNE_RESUME;
    plan.pause_s = 0;
    assert_int_equal(fit("a", tuner, NULL), CADRE_OK);
    assert_string_equal(rows_of("a", "SELECT json_extract(value_json, '$.time') FROM cadre_events WHERE kind = 'report' ORDER BY sequence"), "2.0\n4.0\n6.0\n8.0");
}

/* Two failures are one too many, also with a life of the controller between them. */
static void failures_count_over_lives(void **state)
{
    (void)state;
    cadre_config *point = NULL;
    assert_int_equal(cadre_config_from_json("{\"lr\": 0.05}", &point), CADRE_OK);
    cadre_tuner tuner = {.num_samples = 1, .cores = 1, .search = {.points = (const cadre_config *const[]){point, NULL}}};
    plan.bad_crashes = true;
    plan.pause_s = 0.2;
    plan.max_failures = 1;
    assert_true(WIFSIGNALED(fit_for("a", tuner, 1300, SIGKILL))); /* the first failure is after 1 s, the second after 2 */
    tuner.resume = CADRE_TUNE_RESUME;
    plan.pause_s = 0;
    assert_int_equal(fit("a", tuner, NULL), CADRE_ETRAIN);
    assert_string_equal(rows_of("a", "SELECT count(*) FROM cadre_attempts"), "3"); /* failed, lost, failed, or lost, failed, failed */
    cadre_config_free(point);
}

/* ---- pauses -------------------------------------------------------------------------------------------------------------------------- */

/* Pauses every trial at its first report, and names it once, at once. */
static struct {
    int64_t paused[64];
    int count, named;
} pauser;

static int pauser_create(const void *options, uint64_t seed, void **self)
{
    (void)options, (void)seed;
    memset(&pauser, 0, sizeof pauser);
    *self = NULL;
    return CADRE_OK;
}

static cadre_decision pauser_report(void *self, const cadre_schedule_report *report)
{
    (void)self;
    if (report->time > 1)
        return CADRE_DECIDE_GO_ON;
    pauser.paused[pauser.count++] = report->trial;
    return CADRE_DECIDE_PAUSE;
}

static int64_t pauser_next(void *self)
{
    (void)self;
    return pauser.named < pauser.count ? pauser.paused[pauser.named++] : -1;
}

static void pauser_free(void *self) { (void)self; }

static const cadre_scheduler_table pausing = {.abi = CADRE_SCHEDULER_ABI, .size = sizeof pausing, .name = "pausing", .create = pauser_create,
                                              .on_report = pauser_report, .next = pauser_next, .free = pauser_free};

/* Named before it has left: it goes on when it has. Also when the experiment is taken up in between. */
static void promoted_on_the_way_out(void **state)
{
    (void)state;
    cadre_tuner tuner = {.num_samples = 8, .seed = 1, .cores = 2, .scheduler = {.table = &pausing}};
    cadre_tuner_result result;
    plan.saves = plan.deaf = true;
    int status = fit_for("a", tuner, 700, SIGKILL);
    assert_true(WIFSIGNALED(status));
    plan.deaf = false;
    tuner.resume = CADRE_TUNE_RESUME;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_int_equal(result.complete, 8);

    plan.first_is_slow = true;
    tuner.resume = CADRE_TUNE_NEW;
    assert_int_equal(fit("b", tuner, &result), CADRE_OK);
    assert_int_equal(result.complete, 8);
    assert_string_equal(rows_of("b", "SELECT count(*) > 0 FROM cadre_events WHERE kind = 'promote'"), "1");
    tuner.resume = CADRE_TUNE_RESUME; /* and this can be taken up */
    assert_int_equal(fit("b", tuner, &result), CADRE_OK);
    assert_int_equal(result.trials, 8);
}

/* Paused trials count as running for the searcher's limit: where nothing else can go on, they make room. */
static void a_limit_and_pauses(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.sim = simulate, .num_samples = 20, .max_concurrent = 4, .search = {.name = "tpe", .max_concurrent = 2},
                         .scheduler = CADRE_ASHA(.max_t = 9, .reduction_factor = 3, .promotion = true)};
    assert_int_equal(fit("sim", tuner, &result), CADRE_OK);
    assert_int_equal(result.trials, 20);
    assert_int_equal(result.complete + result.pruned, 20);
    tuner.sim = NULL;
    assert_int_equal(fit("real", tuner, &result), CADRE_OK);
    assert_int_equal(result.trials, 20);
}

/* ---- ends of the experiment ------------------------------------------------------------------------------------------------------------ */

/* The target is reached: nothing is left to be resumed. With another target it goes on, and with the first one it can still be taken up. */
static void a_target_and_another(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.sim = simulate, .num_samples = 40, .seed = 2, .max_concurrent = 4, .stop = {.has_target = true, .target = -0.6},
                         .scheduler = CADRE_ASHA(.max_t = 9, .reduction_factor = 3, .promotion = true)};
    for (int real = 0; real < 2; real++) {
        const char *name = real ? "real" : "sim";
        tuner.sim = real ? NULL : simulate;
        tuner.resume = CADRE_TUNE_NEW;
        tuner.stop.target = -0.6;
        assert_int_equal(fit(name, tuner, &result), CADRE_OK);
        assert_string_equal(result.stop_reason, "target reached");
        assert_true(result.trials < 40);
        assert_int_equal(result.paused, 0);
        assert_string_equal(rows_of(name, "SELECT count(*) FROM trials WHERE state = 'RUNNING'"), "0");
        int64_t before = result.trials;
        tuner.resume = CADRE_TUNE_RESUME;
        assert_int_equal(fit(name, tuner, &result), CADRE_OK);
        assert_int_equal(result.trials, before);
        tuner.stop.target = 1;
        assert_int_equal(fit(name, tuner, &result), CADRE_OK);
        assert_int_equal(result.trials, 40);
        tuner.stop.target = -0.6;
        assert_int_equal(fit(name, tuner, &result), CADRE_OK);
        tuner.num_samples = 7; /* fewer than there are: none more */
        assert_int_equal(fit(name, tuner, &result), CADRE_OK);
        assert_int_equal(result.trials, 40);
        tuner.num_samples = 40;
    }
}

/* A budget counts over all lives, also where nothing was reported; what has not reported by its end has not failed. */
static void a_budget_over_lives(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.num_samples = 4, .cores = 1};
    plan.silent = true;
    assert_int_equal(fit_for("a", tuner, 700, SIGUSR1), 0);
    tuner.resume = CADRE_TUNE_RESUME;
    tuner.stop.time_budget_s = 0.4;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_string_equal(result.stop_reason, "time budget spent");
    assert_string_equal(rows_of("a", "SELECT count(*) FROM cadre_attempts"), "1");
    assert_int_equal(result.failed, 0);
    assert_int_equal(result.pruned, 1);

    tuner.resume = CADRE_TUNE_NEW;
    assert_int_equal(fit("b", tuner, &result), CADRE_OK);
    assert_int_equal(result.pruned, 1);
    assert_string_equal(rows_of("b", "SELECT reason FROM cadre_trials"), "the experiment ended before it reported anything");

    plan.silent = false;
    tuner = (cadre_tuner){.sim = simulate, .num_samples = 100, .max_concurrent = 2, .stop = {.time_budget_s = 30.5}};
    assert_int_equal(fit("c", tuner, &result), CADRE_OK); /* 9 s a trial, two at once */
    assert_int_equal(result.trials, 8);
    assert_string_equal(rows_of("c", "SELECT count(*) FROM cadre_reports"), "60");
}

/* fail_fast: what else runs is to be resumed, and then the rest. */
static void after_fail_fast(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.num_samples = 8, .seed = 3, .cores = 2, .fail_fast = true};
    plan.bad_crashes = plan.saves = true;
    plan.pause_s = 0.03;
    assert_int_equal(fit("a", tuner, &result), CADRE_ETRAIN);
    assert_int_equal(result.failed, 1);
    assert_true(result.paused > 0);
    plan.bad_crashes = false;
    plan.pause_s = 0;
    tuner.resume = CADRE_TUNE_RESUME_ERRORED;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_int_equal(result.trials, 9);
    assert_int_equal(result.complete, 8);
    plan.bad_crashes = true;
    tuner.sim = simulate;
    tuner.resume = CADRE_TUNE_NEW;
    assert_int_equal(fit("sim", tuner, &result), CADRE_ETRAIN);
    assert_int_equal(result.failed, 1);
}

/* Where no worker can be started any more no trial is to blame. */
static void when_the_zygote_dies(void **state)
{
    (void)state;
    cadre_tuner_result result;
    cadre_tuner tuner = {.num_samples = 5, .seed = 3, .cores = 2};
    plan.kills_zygote = true;
    assert_int_equal(fit("a", tuner, &result), CADRE_ESYSTEM);
    assert_non_null(strstr(cadre_error_message(), "the zygote, which forks the workers, is gone"));
    assert_int_equal(result.failed, 0);
    plan.kills_zygote = false;
    tuner.resume = CADRE_TUNE_RESUME;
    assert_int_equal(fit("a", tuner, &result), CADRE_OK);
    assert_int_equal(result.complete, 5);
}

static int die_at_report_40(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    int *left = user;
    if (--*left == 0) {
        base_sleep_ns(30000000);
        raise(SIGKILL);
    }
    if (*left == 5)
        base_sleep_ns(30000000); /* what there is is committed with the next report */
    return simulate(config, trial, report, value, seconds, NULL);
}

/* Under every scheduler, the pausing ones among them, and models that learn from reports: what comes after a kill is what would have come. */
static void a_killed_simulation(void **state)
{
    (void)state;
    static const cadre_asha_options stopping = {.max_t = 9, .reduction_factor = 3}, delayed = {.max_t = 9, .reduction_factor = 3, .promotion = true, .delayed = true};
    static const cadre_hyperband_options bands = {.max_t = 9}, paused_bands = {.max_t = 9, .promotion = true, .delayed = true};
    static const cadre_percentile_options quarter = {.percentile = 25, .n_startup_trials = 3};
    const cadre_scheduler schedulers[] = {{0},
                                          {&cadre_scheduler_asha, &stopping},
                                          {&cadre_scheduler_asha, &delayed},
                                          {&cadre_scheduler_hyperband, &bands},
                                          {&cadre_scheduler_hyperband, &paused_bands},
                                          {&cadre_scheduler_percentile, &quarter},
                                          {&cadre_scheduler_median, NULL}};
    for (int i = 0; i < 7; i++) {
        int left = 40;
        char calm[8], rough[8];
        snprintf(calm, sizeof calm, "calm%d", i);
        snprintf(rough, sizeof rough, "rough%d", i);
        cadre_tuner tuner = {.sim = simulate, .num_samples = i ? 25 : 10, .seed = 4, .scheduler = schedulers[i], .search = {.name = i % 2 ? "bohb" : "gp"}};
        assert_int_equal(fit(calm, tuner, NULL), CADRE_OK);
        char *trials = strdup(trials_of(calm));
        tuner.sim = die_at_report_40;
        tuner.sim_user = &left;
        assert_true(WIFSIGNALED(fit_for(rough, tuner, -1, 0)));
        tuner.sim = simulate;
        tuner.sim_user = NULL;
        tuner.resume = CADRE_TUNE_RESUME;
        assert_int_equal(fit(rough, tuner, NULL), CADRE_OK);
        assert_string_equal(trials_of(rough), trials);
        free(trials);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(simulated_retries),      TEST(simulated_restarts),         TEST(retries_on_processes),
        TEST(retries_survive_kills),  TEST(late_reports_change_nothing), TEST(the_deaf_are_made_to_leave),
        TEST(told_is_told),           TEST(a_last_value_that_is_no_number), TEST(the_metric_in_some_reports),
        TEST(promoted_on_the_way_out), TEST(a_limit_and_pauses),        TEST(a_target_and_another),
        TEST(a_budget_over_lives),    TEST(after_fail_fast),            TEST(when_the_zygote_dies),
        TEST(a_killed_simulation),    TEST(failures_count_over_lives),
    };
    return cmocka_run_group_tests_name("tuner: resume", tests, NULL, NULL);
}
