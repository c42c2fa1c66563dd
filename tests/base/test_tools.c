/* Buffers, clocks, fault points, allocation, the log. */
#include "test_base.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void buffer_grows_and_shrinks(void **state)
{
    (void)state;
    base_buffer buffer = {0};
    for (int i = 0; i < 1000; i++)
        assert_ok(base_buffer_printf(&buffer, "%03d;", i));
    assert_int_equal(buffer.length, 4000);
    assert_memory_equal(buffer.data + 3996, "999;", 4);
    base_buffer_consume(&buffer, 3996);
    assert_int_equal(buffer.length, 4);
    assert_memory_equal(buffer.data, "999;", 4);
    assert_ok(base_buffer_append(&buffer, NULL, 0));
    base_buffer_consume(&buffer, 100);
    assert_int_equal(buffer.length, 0);
    assert_int_equal(base_buffer_reserve(&buffer, SIZE_MAX - 1), CADRE_ENOMEM);
    base_buffer_free(&buffer);
    base_buffer_free(&buffer);
}

static void buffer_without_memory_stays_as_it_was(void **state)
{
    (void)state;
    char big[1000] = {0};
    base_buffer buffer = {0};
    assert_ok(base_buffer_append(&buffer, "ab", 2));
    base_fault_set("alloc:1");
    assert_int_equal(base_buffer_append(&buffer, big, sizeof big), CADRE_ENOMEM);
    base_fault_set(NULL);
    assert_int_equal(buffer.length, 2);
    assert_memory_equal(buffer.data, "ab", 2);
    base_buffer_free(&buffer);
}

static void utc_is_written_as_optuna_reads_it(void **state)
{
    (void)state;
    char text[BASE_UTC_TEXT];
    base_utc_format(0, text);
    assert_string_equal(text, "1970-01-01 00:00:00.000000");
    base_utc_format(INT64_C(1709164799123456), text);
    assert_string_equal(text, "2024-02-28 23:59:59.123456");
    base_utc_format(-1, text);
    assert_string_equal(text, "1969-12-31 23:59:59.999999");
    base_utc_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31 23:59:59.999999");
    base_utc_format(INT64_MIN, text);
    assert_string_equal(text, "0001-01-01 00:00:00.000000");
}

static void clocks_go_on(void **state)
{
    (void)state;
    int64_t before = base_now_ns();
    base_sleep_ns(2000000);
    assert_true(base_now_ns() - before >= 2000000);
    assert_true(base_utc_us() > INT64_C(1600000000000000));
}

static void faults_strike_at_their_passage(void **state)
{
    (void)state;
    base_fault_set("here:2,there:1:enospc,late:3+:oom,cut:1:short");
    assert_true(base_fault_armed);
    assert_int_equal(BASE_FAULT("here"), 0);
    assert_int_equal(BASE_FAULT("here"), EIO);
    assert_int_equal(BASE_FAULT("here"), 0);
    assert_int_equal(BASE_FAULT("there"), ENOSPC);
    assert_int_equal(BASE_FAULT("cut"), -1);
    assert_int_equal(BASE_FAULT("elsewhere"), 0);
    for (int i = 1; i <= 5; i++)
        assert_int_equal(BASE_FAULT("late"), i < 3 ? 0 : ENOMEM);
    base_fault_set(NULL);
    assert_false(base_fault_armed);
    assert_int_equal(BASE_FAULT("here"), 0);
}

static void faults_keep_to_their_rank(void **state)
{
    (void)state;
    base_fault_set("here:1@1");
    base_fault_set_rank(0);
    assert_int_equal(BASE_FAULT("here"), 0);
    base_fault_set_rank(1);
    assert_int_equal(BASE_FAULT("here"), EIO);
    base_fault_set_rank(1); /* counts start again */
    assert_int_equal(BASE_FAULT("here"), EIO);
    base_fault_set(NULL);
}

static int status_of_child(const char *spec)
{
    pid_t child = fork();
    if (child == 0) {
        base_fault_set(spec);
        (void)BASE_FAULT("here");
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        int end;
        waitpid(child, &end, 0);
    }
    return status;
}

static void faults_end_a_process(void **state)
{
    (void)state;
    int status = status_of_child("here:1:kill");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = status_of_child("here:1:segv");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = status_of_child("here:1:exit");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    status = status_of_child("here:1:stop");
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

static void allocation_fails_on_request(void **state)
{
    (void)state;
    base_fault_set("alloc:1+");
    assert_null(base_malloc(10));
    assert_message_has("out of memory for 10 bytes");
    assert_null(base_calloc(2, 8));
    assert_null(base_realloc(NULL, 8));
    assert_null(base_strdup("x"));
    assert_null(base_sprintf("%d", 1));
    base_fault_set(NULL);
    char *text = base_sprintf("%s-%d", "a", 5);
    assert_string_equal(text, "a-5");
    free(text);
    void *nothing = base_malloc(0);
    assert_non_null(nothing);
    free(nothing);
}

static void keep_line(cadre_log_level level, const char *room, const char *line, void *user)
{
    snprintf(user, 64, "%d %s %s", (int)level, room, line);
}

static void the_log_goes_where_it_is_sent(void **state)
{
    (void)state;
    char line[64] = "";
    base_log(CADRE_LOG_ERROR, "base", "nobody listens");
    cadre_log_set(keep_line, line, CADRE_LOG_WARN);
    base_log(CADRE_LOG_INFO, "base", "too low");
    assert_string_equal(line, "");
    base_log(CADRE_LOG_WARN, "base", "rank %d", 3);
    assert_string_equal(line, "2 base rank 3");
    cadre_log_set(NULL, NULL, CADRE_LOG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_grows_and_shrinks),
        cmocka_unit_test(buffer_without_memory_stays_as_it_was),
        cmocka_unit_test(utc_is_written_as_optuna_reads_it),
        cmocka_unit_test(clocks_go_on),
        cmocka_unit_test(faults_strike_at_their_passage),
        cmocka_unit_test(faults_keep_to_their_rank),
        cmocka_unit_test(faults_end_a_process),
        cmocka_unit_test(allocation_fails_on_request),
        cmocka_unit_test(the_log_goes_where_it_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
