/* Schedulers: the contract of all, and what each stops by. */
#include "test_schedule_contract.h"

static const cadre_asha_options stopping = {.max_t = 27, .reduction_factor = 3}, promotion = {.max_t = 27, .reduction_factor = 3, .promotion = true},
                                delayed = {.max_t = 27, .reduction_factor = 3, .promotion = true, .delayed = true},
                                several = {.max_t = 27, .reduction_factor = 3, .brackets = 3, .promotion = true};
static const cadre_hyperband_options bands = {.max_t = 27}, band_promotion = {.max_t = 27, .promotion = true, .delayed = true};
static const cadre_percentile_options quarter = {.percentile = 25, .n_warmup_steps = 2, .interval_steps = 3};

static const schedule_case fifo = {{&cadre_scheduler_fifo, NULL}, false};
static const schedule_case asha = {{&cadre_scheduler_asha, &stopping}, true};
static const schedule_case asha_promotion = {{&cadre_scheduler_asha, &promotion}, true};
static const schedule_case asha_delayed = {{&cadre_scheduler_asha, &delayed}, true};
static const schedule_case asha_brackets = {{&cadre_scheduler_asha, &several}, true};
static const schedule_case hyperband = {{&cadre_scheduler_hyperband, &bands}, true};
static const schedule_case hyperband_promotion = {{&cadre_scheduler_hyperband, &band_promotion}, true};
static const schedule_case median = {{&cadre_scheduler_median, NULL}, true};
static const schedule_case percentile = {{&cadre_scheduler_percentile, NULL}, true};
static const schedule_case percentile_quarter = {{&cadre_scheduler_percentile, &quarter}, true};

static void *make(cadre_scheduler scheduler)
{
    void *self = NULL;
    if (scheduler.table->create(scheduler.options, 0, &self) != CADRE_OK)
        fail_msg("%s", cadre_error_message());
    return self;
}

static cadre_decision report(const cadre_scheduler_table *table, void *self, int64_t trial, double time, double value)
{
    return table->on_report(self, &(cadre_schedule_report){trial, time, value, time});
}

static void refused(cadre_scheduler scheduler, const char *message)
{
    void *self = NULL;
    assert_int_equal(scheduler.table->create(scheduler.options, 0, &self), CADRE_EINVAL);
    assert_null(self);
    if (!strstr(cadre_error_message(), message))
        fail_msg("\"%s\" is not in \"%s\"", message, cadre_error_message());
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    refused(CADRE_ASHA(.reduction_factor = 1), "asha: reduction_factor is 1");
    refused(CADRE_ASHA(.max_t = 3, .grace_period = 9), "asha: grace_period is 9 and max_t 3");
    refused(CADRE_ASHA(.max_t = INFINITY), "asha: grace_period is 1 and max_t inf");
    refused(CADRE_ASHA(.brackets = 65), "asha: brackets is 65");
    refused(CADRE_HYPERBAND(.reduction_factor = NAN), "hyperband: reduction_factor is nan");
    refused(CADRE_HYPERBAND(.max_t = 52, .brackets = 5), "hyperband: brackets is 5: give 1 to 4");
    refused(CADRE_HYPERBAND(.brackets = -1), "hyperband: brackets is -1");
    refused(CADRE_PERCENTILE(.percentile = 101), "percentile: percentile is 101");
    refused(CADRE_PERCENTILE(.percentile = -1), "percentile: percentile is -1");
    refused(CADRE_PERCENTILE(.n_startup_trials = -2), "percentile: n_startup_trials is -2");
    refused(CADRE_PERCENTILE(.n_min_trials = -1), "n_min_trials -1");
    refused(CADRE_PERCENTILE(.interval_steps = -1), "interval_steps -1");
    refused(CADRE_PERCENTILE(.n_warmup_steps = INFINITY), "n_warmup_steps is inf");
    refused(CADRE_MEDIAN(.min_samples_required = -1), "median:");
}

/* A program that was built with a shorter struct: what lies behind it is not read. */
static void an_earlier_version_of_the_options(void **state)
{
    (void)state;
    cadre_asha_options options = {.size = offsetof(cadre_asha_options, brackets), .max_t = 27, .brackets = -5};
    cadre_scheduler_asha.free(make((cadre_scheduler){&cadre_scheduler_asha, &options}));
    options.size = sizeof options;
    refused((cadre_scheduler){&cadre_scheduler_asha, &options}, "asha: brackets is -5");
}

/* With reduction 3: of values that come as 5, 6, ..., the first alone passes; a better one later passes at once. */
static void asha_keeps_a_third(void **state)
{
    (void)state;
    void *self = make((cadre_scheduler){&cadre_scheduler_asha, &stopping});
    static const double values[] = {5, 6, 7, 4, 4.5, 8, 9, 3};
    static const cadre_decision expected[] = {CADRE_DECIDE_GO_ON, CADRE_DECIDE_STOP, CADRE_DECIDE_STOP, CADRE_DECIDE_GO_ON,
                                              CADRE_DECIDE_STOP,  CADRE_DECIDE_STOP, CADRE_DECIDE_STOP, CADRE_DECIDE_GO_ON};
    for (int i = 0; i < 8; i++)
        assert_int_equal(report(&cadre_scheduler_asha, self, i, 1, values[i]), expected[i]);
    assert_int_equal(report(&cadre_scheduler_asha, self, 0, 27, 5), CADRE_DECIDE_COMPLETE);
    cadre_scheduler_asha.free(self);
}

/* Ever better trials: plain promotion lets each go on as it comes once there are three; the delayed one a third of them. */
static void delayed_promotion_keeps_a_third_of_ever_better_trials(void **state)
{
    (void)state;
    const cadre_scheduler_table *table = &cadre_scheduler_asha;
    for (int is_delayed = 0; is_delayed < 2; is_delayed++) {
        void *self = make((cadre_scheduler){table, is_delayed ? &delayed : &promotion});
        int went_on = 0;
        for (int i = 0; i < 90; i++) {
            went_on += report(table, self, i, 1, -i) == CADRE_DECIDE_GO_ON;
            for (int64_t next; (next = table->next(self)) >= 0; went_on++)
                assert_int_equal(next, i); /* always the best */
        }
        assert_int_equal(went_on, is_delayed ? 30 : 88);
        table->free(self);
    }
}

/* 1, 3, 9, 27 of max_t 27 and reduction 3: 27, 12, 6 and 4 of 49 trials; in which bracket a trial is shows in where it first pauses. */
static void hyperband_deals_by_budget(void **state)
{
    (void)state;
    const cadre_scheduler_table *table = &cadre_scheduler_hyperband;
    void *self = make((cadre_scheduler){table, &band_promotion});
    int first[28] = {0}, early[28] = {0};
    for (int trial = 0; trial < 980; trial++)
        for (int time = 1; time <= 27; time++) {
            cadre_decision decision = report(table, self, trial, time, trial); /* ever worse: all pause at their first rung */
            if (decision == CADRE_DECIDE_GO_ON)
                continue;
            assert_int_equal(decision, time == 27 ? CADRE_DECIDE_COMPLETE : CADRE_DECIDE_PAUSE);
            first[time]++;
            early[time] += trial < 49;
            break;
        }
    assert_in_range(first[1], 539, 541);
    assert_in_range(first[3], 239, 241);
    assert_in_range(first[9], 119, 121);
    assert_in_range(first[27], 79, 81);
    assert_in_range(early[1], 26, 28);
    assert_in_range(early[3], 11, 13);
    assert_in_range(early[9], 5, 7);
    assert_in_range(early[27], 3, 5);
    table->free(self);
}

/* Against Optuna's rule, worked out by hand: complete trials' values at step 2 are 1, 2, 3, 4; their quarter is 1.75, their median 2.5. */
static void percentile_is_optunas(void **state)
{
    (void)state;
    const cadre_scheduler_table *table = &cadre_scheduler_percentile;
    const cadre_percentile_options options = {.percentile = 25, .n_startup_trials = 4}, half = {.n_startup_trials = 4};
    for (int which = 0; which < 2; which++) {
        void *self = make((cadre_scheduler){table, which ? &half : &options});
        for (int i = 0; i < 4; i++) {
            assert_int_equal(report(table, self, i, 1, 9), CADRE_DECIDE_GO_ON);
            assert_int_equal(report(table, self, i, 2, i + 1), CADRE_DECIDE_GO_ON);
            table->on_trial_end(self, i, CADRE_ENDED_COMPLETE);
        }
        assert_int_equal(report(table, self, 4, 2, which ? 2.5 : 1.75), CADRE_DECIDE_GO_ON); /* not worse than the limit */
        assert_int_equal(report(table, self, 5, 2, which ? 2.6 : 1.8), CADRE_DECIDE_STOP);
        table->on_trial_end(self, 5, CADRE_ENDED_PRUNED);
        assert_int_equal(report(table, self, 6, 1, 0), CADRE_DECIDE_GO_ON);
        assert_int_equal(report(table, self, 6, 2, 7), CADRE_DECIDE_GO_ON); /* its best so far counts */
        assert_int_equal(report(table, self, 7, 3, 99), CADRE_DECIDE_GO_ON); /* nobody has come there */
        assert_int_equal(report(table, self, 8, 1, NAN), CADRE_DECIDE_STOP);
        table->free(self);
    }
}

static void percentile_waits(void **state)
{
    (void)state;
    const cadre_scheduler_table *table = &cadre_scheduler_percentile;
    const cadre_percentile_options options = {.n_startup_trials = 2, .n_warmup_steps = 2, .interval_steps = 3, .n_min_trials = 2};
    void *self = make((cadre_scheduler){table, &options});
    for (int i = 0; i < 2; i++) {
        for (int step = 1; step <= 10; step++)
            assert_int_equal(report(table, self, i, step, 1), CADRE_DECIDE_GO_ON);
        table->on_trial_end(self, i, i ? CADRE_ENDED_COMPLETE : CADRE_ENDED_FAILED);
        assert_int_equal(report(table, self, 10 + i, 5, 2), CADRE_DECIDE_GO_ON); /* startup */
    }
    for (int step = 1; step <= 5; step++)
        report(table, self, 2, step, 1);
    table->on_trial_end(self, 2, CADRE_ENDED_COMPLETE);
    /* Steps 6 and later have one complete trial with a report, 1 to 5 two. Judged at 2 and 5, the first of their intervals. */
    static const cadre_decision expected[] = {CADRE_DECIDE_GO_ON, CADRE_DECIDE_STOP, CADRE_DECIDE_GO_ON, CADRE_DECIDE_GO_ON,
                                              CADRE_DECIDE_STOP,  CADRE_DECIDE_GO_ON, CADRE_DECIDE_GO_ON, CADRE_DECIDE_GO_ON};
    for (int step = 1; step <= 8; step++)
        assert_int_equal(report(table, self, 20, step, 2), expected[step - 1]);
    table->free(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCHEDULE_CONTRACT(fifo),
        SCHEDULE_CONTRACT(asha),
        SCHEDULE_CONTRACT(asha_promotion),
        SCHEDULE_CONTRACT(asha_delayed),
        SCHEDULE_CONTRACT(asha_brackets),
        SCHEDULE_CONTRACT(hyperband),
        SCHEDULE_CONTRACT(hyperband_promotion),
        SCHEDULE_CONTRACT(median),
        SCHEDULE_CONTRACT(percentile),
        SCHEDULE_CONTRACT(percentile_quarter),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(an_earlier_version_of_the_options),
        cmocka_unit_test(asha_keeps_a_third),
        cmocka_unit_test(delayed_promotion_keeps_a_third_of_ever_better_trials),
        cmocka_unit_test(hyperband_deals_by_budget),
        cmocka_unit_test(percentile_is_optunas),
        cmocka_unit_test(percentile_waits),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
