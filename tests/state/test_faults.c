/* Disks that fill up, calls that fail, processes that die in the middle. */
#include "test_state.h"

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static test_program program;

static int enter(void **state)
{
    int failed = test_enter_folder(state);
    test_program_init(&program, 1, 0);
    return failed;
}

static int leave(void **state)
{
    test_program_free(&program);
    return test_leave_folder(state);
}

static void a_failed_save_leaves_nothing(void **state)
{
    (void)state;
    static const char *const points[] = {
        "alloc", "open", "write", "fsync", "rename", "mkdir", "checkpoint_write", "checkpoint_renamed"};
    static const char *const actions[] = {"fail", "enospc", "short"};
    assert_ok(base_mkdirs("runs", 0700));
    json_set_alloc_funcs(base_malloc, free); /* so that the nth allocation may be jansson's */
    for (size_t point = 0; point < sizeof points / sizeof *points; point++)
        for (size_t action = 0; action < 3; action++) {
            int n = 1;
            for (;; n++) {
                char spec[64];
                snprintf(spec, sizeof spec, "%s:%d:%s", points[point], n, actions[action]);
                base_fault_set(spec);
                int status = cadre_checkpoint_save("runs/c", program.state);
                base_fault_set(NULL);
                if (status == CADRE_OK)
                    break;
                assert_int_equal(test_entries_of("runs"), 0);
                assert_message_has(status == CADRE_ENOMEM && strncmp(points[point], "alloc", 5) == 0 ? "memory"
                                                                                                     : "runs/c");
                if (status == CADRE_ENOSPC)
                    assert_string_equal(cadre_error_message(),
                                        "checkpoint runs/c: no space left: free some or lower checkpoint.keep");
                assert_true(n < 2000);
            }
            assert_true(n > 1);
            assert_ok(cadre_checkpoint_verify("runs/c", NULL));
            assert_int_equal(test_entries_of("runs"), 1);
            assert_ok(base_remove_tree("runs/c"));
        }
    json_set_alloc_funcs(malloc, free);
}

/* With jansson's own allocations left alone: its lexer (2.14; its issue 362) crashes where it finds no memory. */
static void a_failed_load_changes_nothing(void **state)
{
    (void)state;
    static const char *const points[] = {"alloc", "open", "read"};
    assert_ok(cadre_checkpoint_save("load", program.state));
    for (size_t point = 0; point < 3; point++)
        for (int n = 1;; n++) {
            char spec[64];
            test_program other;
            test_program_init(&other, 2, 0);
            test_program before = other;
            snprintf(spec, sizeof spec, "%s:%d", points[point], n);
            base_fault_set(spec);
            int verified = cadre_checkpoint_verify("load", NULL);
            base_fault_set(spec);
            int status = cadre_checkpoint_load("load", other.state);
            base_fault_set(NULL);
            assert_true(test_program_equal(&other, status == CADRE_OK ? &program : &before));
            test_program_free(&other);
            if (status == CADRE_OK && verified == CADRE_OK)
                break;
            assert_true(n < 2000);
        }
}

static void save_and_die(const char *spec)
{
    pid_t child = fork();
    if (child == 0) {
        base_fault_set(spec);
        cadre_checkpoint_save("die/c", program.state);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_dead_writer_leaves_no_half(void **state)
{
    (void)state;
    static const char *const before[] = {"checkpoint_write:1:kill",
                                         "write:1:kill",
                                         "write:5:kill",
                                         "fsync:1:kill",
                                         "fsync:2:kill",
                                         "fsync:3:kill",
                                         "rename:1:kill"};
    assert_ok(base_mkdirs("die", 0700));
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        save_and_die(before[i]);
        assert_false(base_exists("die/c"));
        assert_int_equal(test_entries_of("die"), 1); /* the temporary one, */
        assert_ok(checkpoint_sweep("die"));          /* which the next attempt sweeps away */
        assert_int_equal(test_entries_of("die"), 0);
    }
    save_and_die("checkpoint_renamed:1:kill");
    assert_ok(cadre_checkpoint_verify("die/c", NULL));
    assert_int_equal(test_entries_of("die"), 1);
}

static void a_full_disk_is_named(void **state)
{
    (void)state;
    static unsigned char large[200000], small[40000];
    assert_ok(base_mkdirs("small", 0700));
    if (!test_mount_small("small"))
        skip();
    cadre_state *s, *fits;
    assert_ok(cadre_state_new(&s));
    assert_ok(cadre_state_new(&fits));
    assert_ok(cadre_state_add_tensor(s, "large", CADRE_STATE_U8, 1, (int64_t[]){sizeof large}, large));
    assert_ok(cadre_state_add_tensor(fits, "small", CADRE_STATE_U8, 1, (int64_t[]){sizeof small}, small));
    assert_int_equal(cadre_checkpoint_save("small/c", s), CADRE_ENOSPC);
    assert_string_equal(cadre_error_message(), "checkpoint small/c: no space left: free some or lower checkpoint.keep");
    assert_int_equal(test_entries_of("small"), 0);
    assert_ok(cadre_checkpoint_save("small/c-1", fits));
    assert_ok(cadre_checkpoint_save("small/c-2", fits));
    assert_int_equal(cadre_checkpoint_save("small/c-3", fits), CADRE_ENOSPC);
    assert_int_equal(test_entries_of("small"), 2);
    assert_ok(cadre_checkpoint_verify("small/c-2", NULL));
    cadre_state_free(s);
    cadre_state_free(fits);
    assert_int_equal(umount("small"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_save_leaves_nothing),
        cmocka_unit_test(a_failed_load_changes_nothing),
        cmocka_unit_test(a_dead_writer_leaves_no_half),
        cmocka_unit_test(a_full_disk_is_named),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
