/*
 * A writer is killed at a random moment, again and again (CADRE_KILLS times, 30 unless it is set), on one store. After
 * each kill the file must be whole, what a durable commit had answered for must be there, and the next writer goes on
 * from it.
 */
#include "base/clock.h"
#include "base/rng.h"
#include "helpers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Report for ever; tell through `out` after each durable commit which report was in it. */
static int write_for_ever(const char *path, int out)
{
    tracking_store *store;
    tracking_trial trial = {0};
    int64_t experiment, number;
    if (tracking_open(path, &store) != CADRE_OK)
        return 1;
    if (tracking_experiment(store, "kill", "loss", TRACKING_MINIMIZE, &experiment) != CADRE_OK)
        return 2;
    int status = tracking_last_trial(store, experiment, &trial);
    if (status == CADRE_ENOENT)
        status = tracking_trial_add(store, experiment, NULL, 0, 0, &trial.id, &number);
    if (status != CADRE_OK ||
        tracking_attempt_begin(store, trial.id, trial.attempts, 1, "fork", "self", trial.last_report, 0) != CADRE_OK)
        return 3;
    for (int64_t report = trial.last_report + 1;; report++) {
        tracking_metric metrics[] = {{"loss", 1.0 / (double)report}, {"accuracy", (double)report}};
        if (tracking_report(store, trial.id, trial.attempts, report, report, metrics, 2) != CADRE_OK)
            return 4;
        if (report % 5 != 0)
            continue;
        bool durable = report % 25 == 0;
        if (tracking_commit(store, durable) != CADRE_OK)
            return 5;
        if (durable && write(out, &report, sizeof report) != sizeof report)
            return 6;
    }
}

static int64_t last_acknowledged(int in, int64_t before)
{
    int64_t report;
    while (read(in, &report, sizeof report) == sizeof report)
        before = report;
    return before;
}

static void test_kill(void **state)
{
    (void)state;
    const char *text = getenv("CADRE_KILLS");
    int kills = text && atoi(text) > 0 ? atoi(text) : 30;
    int64_t acknowledged = 0;
    base_rng rng;
    base_rng_init(&rng, (uint64_t)base_utc_us(), 0);
    helpers_directory();
    for (int i = 0; i < kills; i++) {
        int channel[2], status;
        assert_int_equal(pipe(channel), 0);
        pid_t child = fork();
        if (child == 0)
            _exit(write_for_ever(helpers_store(), channel[1]));
        close(channel[1]);
        base_sleep_ns(
            (int64_t)base_rng_below(&rng, i % 3 == 0 ? 12000000 : 120000000)); /* a third of them while it opens */
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status))
            fail_msg("the writer ended by itself: %d", WEXITSTATUS(status));
        acknowledged = last_acknowledged(channel[0], acknowledged);
        close(channel[0]);
        if (access(helpers_store(), F_OK) != 0)
            continue;
        helpers_check_integrity(helpers_store());
        if (helpers_int(helpers_store(), "SELECT count(*) FROM sqlite_master") == 0)
            continue; /* killed before the tables were made, which are there all or none */
        int64_t reports = helpers_int(helpers_store(), "SELECT count(*) FROM cadre_reports");
        if (reports < acknowledged)
            fail_msg("kill %d: report %d was committed, %d are there", i, (int)acknowledged, (int)reports);
        assert_int_equal(helpers_int(helpers_store(), "SELECT coalesce(max(report), 0) FROM cadre_reports"), reports);
        assert_int_equal(helpers_int(helpers_store(), "SELECT count(*) FROM cadre_metrics"), 2 * reports);
        assert_int_equal(helpers_int(helpers_store(), "SELECT count(*) FROM trial_intermediate_values"), reports);
    }
    print_message("%d kills, %d reports acknowledged\n", kills, (int)acknowledged);
    assert_true(kills < 20 || acknowledged > 0);
    helpers_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
