/* The timeline: one file of several processes, whole whoever is killed when. */
#include "test_base.h"

#include "base/clock.h"
#include "base/timeline.h"

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, SPANS = 3000 };

static char path[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/cadre-timeline-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    base_timeline_close();
    unlink(path);
    return 0;
}

static json_t *load(void)
{
    json_error_t error;
    json_t *all = json_load_file(path, 0, &error);
    if (!all)
        fprintf(stderr, "line %d: %s\n", error.line, error.text);
    assert_true(json_is_array(all));
    return all;
}

/* Spans of that name, of that process (0: any). Every span has what a viewer needs. */
static int count(const json_t *all, const char *name, json_int_t pid)
{
    int found = 0;
    size_t i;
    json_t *event;
    json_array_foreach(all, i, event)
    {
        if (strcmp(json_string_value(json_object_get(event, "ph")), "X") != 0)
            continue;
        assert_true(json_number_value(json_object_get(event, "ts")) >= 0);
        assert_true(json_number_value(json_object_get(event, "dur")) >= 0);
        assert_true(json_is_integer(json_object_get(event, "pid")) && json_is_integer(json_object_get(event, "tid")));
        assert_true(json_is_string(json_object_get(event, "cat")));
        found += strcmp(json_string_value(json_object_get(event, "name")), name) == 0 &&
                 (!pid || json_integer_value(json_object_get(event, "pid")) == pid);
    }
    return found;
}

static void test_off(void **state)
{
    (void)state;
    assert_int_equal(cadre_timeline_begin(), 0);
    cadre_timeline_end(0, "none", "none");
    cadre_timeline_end(base_now_ns(), "none", "none");
    base_timeline_flush();
    assert_ok(base_timeline_close());
    assert_int_equal(access(path, F_OK), -1);
}

static void test_words(void **state)
{
    char longer[600];
    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    memcpy(longer + 198, "\xe2\x82\xac", 3); /* a character across the cut */
    assert_ok(base_timeline_open(path, "rank 0 \"of\" 1", 0));
    int64_t begun = cadre_timeline_begin();
    assert_true(begun > 0);
    base_sleep_ns(2000000);
    cadre_timeline_end(begun, "a\\b", "quoted \"name\"\n\t\x01 end");
    cadre_timeline_end_beside(begun, "long", longer);
    cadre_timeline_end(begun, "grüße", "größe");
    cadre_timeline_end(begun, NULL, "nothing");
    assert_ok(base_timeline_close());
    json_t *all = load();
    assert_int_equal(count(all, "quoted \"name\"    end", 0), 1);
    assert_int_equal(count(all, "größe", 0), 1);
    longer[198] = '\0';
    assert_int_equal(count(all, longer, 0), 1);
    json_t *first = json_array_get(all, 4);
    assert_true(json_number_value(json_object_get(first, "dur")) >= 2000);
    assert_true(json_number_value(json_object_get(first, "dur")) < 10e6);
    json_decref(all);
}

static void record(int rank, bool dies)
{
    char title[32], name[32];
    snprintf(title, sizeof title, "rank %d", rank);
    snprintf(name, sizeof name, "step of %d", rank);
    if (base_timeline_open(path, title, rank) != CADRE_OK)
        _exit(1);
    for (int i = 0; i < SPANS; i++)
        cadre_timeline_end(cadre_timeline_begin(), "train", name);
    if (dies)
        raise(SIGKILL);
    _exit(base_timeline_close() == CADRE_OK ? 0 : 1);
}

static void test_processes(void **state)
{
    pid_t pids[PROCESSES];
    (void)state;
    for (int r = 0; r < PROCESSES; r++)
        if ((pids[r] = fork()) == 0)
            record(r, r == 2);
    for (int r = 0; r < PROCESSES; r++) {
        int status;
        waitpid(pids[r], &status, 0);
        assert_int_equal(status, r == 2 ? SIGKILL : 0);
    }
    json_t *all = load();
    for (int r = 0; r < PROCESSES; r++) {
        char name[32];
        snprintf(name, sizeof name, "step of %d", r);
        int found = count(all, name, pids[r]);
        if (r == 2)
            assert_in_range(found, 1, SPANS - 1); /* it was killed with its last ones in hand */
        else
            assert_int_equal(found, SPANS);
    }
    json_decref(all);
}

/* A writer was killed in the middle of its write, wherever that was: the next one makes the file whole again. */
static void test_cut(void **state)
{
    (void)state;
    for (int kept = 1; kept < 60; kept++) {
        char text[2048];
        unlink(path);
        assert_ok(base_timeline_open(path, "rank 0", 0));
        cadre_timeline_end(cadre_timeline_begin(), "train", "first");
        assert_ok(base_timeline_close());
        FILE *file = fopen(path, "r+");
        assert_non_null(file);
        size_t size = fread(text, 1, sizeof text, file), room = size - strlen("\n]\n");
        memcpy(text + room, ",\n{\"name\":\"a second one, which never came to its end\",\"cat\":\"t\"}", 64);
        assert_int_equal(fseek(file, 0, SEEK_SET), 0);
        fwrite(text, 1, room + (size_t)kept, file); /* over the bracket */
        fclose(file);
        assert_ok(base_timeline_open(path, "rank 1", 1));
        if (kept % 2)
            cadre_timeline_end(cadre_timeline_begin(), "train", "third");
        assert_ok(base_timeline_close());
        json_t *all = load();
        if (kept > 1) /* a lone comma belongs to nothing */
            assert_int_equal(count(all, "first", 0), 1);
        assert_int_equal(count(all, "third", 0), kept % 2);
        json_decref(all);
    }
}

static void test_foreign_file(void **state)
{
    (void)state;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("a letter\n", file);
    fclose(file);
    assert_int_equal(base_timeline_open(path, "rank 0", 0), CADRE_EEXIST);
    assert_message_has("no timeline");
    assert_int_equal(cadre_timeline_begin(), 0);
    assert_int_equal(base_timeline_open("/nowhere/at/all", "rank 0", 0), CADRE_ENOENT);
    assert_message_has("/nowhere/at/all");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_foreign_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
