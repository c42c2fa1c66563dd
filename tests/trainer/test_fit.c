/* Runs that go well: every launcher and number of workers, the same bits, nothing left behind. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void workers(void **state)
{
    (void)state;
    for (int world = 1; world <= 4; world++) {
        char name[32], words[64];
        snprintf(name, sizeof name, "w%d", world);
        snprintf(words, sizeof words, "workers=%d", world);
        job_expect(name, words, "OK");
        assert_run_clean(name);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_reports"), 3);
        assert_string_equal(store_text(name, "SELECT state FROM trials"), "COMPLETE");
        assert_string_equal(store_text(name, "SELECT launcher || ' ' || num_workers || ' ' || cause || ' ' || rank FROM cadre_attempts") + 5, 
                            world == 1 ? "1 finished -1" : world == 2 ? "2 finished -1" : world == 3 ? "3 finished -1" : "4 finished -1");
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_string_equal(job_answer(name, "reports"), "3");
        assert_string_equal(job_answer(name, "stopped"), "0");
        assert_string_equal(job_answer(name, "times"), "1");
        assert_true(file_exists(job_answer(name, "best")));
        assert_string_equal(job_answer(name, "best"), job_answer(name, "last"));
        for (int rank = 0; rank < world; rank++) { /* standard ones, the channel, what the program had, one a peer */
            snprintf(words, sizeof words, "attempt 0 rank %d of %d, ", rank, world);
            assert_non_null(strstr(job_log(name, 0, rank), words));
            assert_in_range(atoi(strstr(job_log(name, 0, rank), words) + strlen(words)), 4, 5 + world);
        }
    }
}

/* The same program forked, executed, in the process and by mpirun: the same bits and the same record. */
static void launchers_are_equal(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words, *launcher;
        int world;
    } ways[] = {
        {"fork1", "workers=1", "fork", 1},           {"fork2", "workers=2 launcher=fork", "fork", 2}, {"exec1", "workers=1 thread=1", "exec", 1},
        {"exec2", "workers=2 thread=1", "exec", 2}, {"inproc", "launcher=inproc", "inproc", 1},     {"mpirun1", "workers=1 launcher=mpirun", "mpirun", 1},
        {"mpirun2", "workers=2 launcher=mpirun", "mpirun", 2},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const char *like = ways[i].world == 1 ? "fork1" : "fork2";
        job_expect(ways[i].name, ways[i].words, "OK");
        assert_run_clean(ways[i].name);
        assert_string_equal(store_text(ways[i].name, "SELECT launcher FROM cadre_attempts"), ways[i].launcher);
        assert_same_final(ways[i].name, like, ways[i].world);
        char *reports = store_reports(ways[i].name, 0), *expected = store_reports(like, 0);
        assert_string_equal(reports, expected);
        free(reports);
        free(expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(workers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(launchers_are_equal, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: fit", tests, NULL, NULL);
}
