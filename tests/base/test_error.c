#include "test_base.h"

#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static void names_and_texts(void **state)
{
    (void)state;
#define CHECK(name, value, text)                                                                                       \
    assert_int_equal(CADRE_##name, value);                                                                             \
    assert_string_equal(cadre_status_name(value), #name);                                                              \
    assert_string_equal(cadre_status_text(value), text);
    CADRE_STATUS_MAP(CHECK)
#undef CHECK
    assert_string_equal(cadre_status_name(-9999), "unknown");
    assert_string_equal(cadre_status_text(-9999), "unknown status");
}

static void layers_are_put_in_front(void **state)
{
    (void)state;
    assert_int_equal(base_errno(ENOENT, "open %s", "runs/first"), CADRE_ENOENT);
    assert_int_equal(base_wrap(CADRE_EIO, "restore trial %d", 7), CADRE_EIO);
    assert_string_equal(cadre_error_message(), "restore trial 7: open runs/first: No such file or directory");
}

static void a_message_is_one_line(void **state)
{
    (void)state;
    base_error(CADRE_EINVAL, "a\nb\tc\rd");
    assert_string_equal(cadre_error_message(), "a b c d");
    base_wrap(CADRE_EINVAL, "x\ny");
    assert_string_equal(cadre_error_message(), "x y: a b c d");
}

static void the_old_message_may_be_an_argument(void **state)
{
    (void)state;
    base_error(CADRE_EIO, "first");
    base_error(CADRE_EIO, "second, after %s", cadre_error_message());
    assert_string_equal(cadre_error_message(), "second, after first");
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    base_error(CADRE_EIO, "%s", text);
    assert_int_equal(strlen(cadre_error_message()), BASE_ERROR_MAX - 1);
    base_wrap(CADRE_EIO, "where");
    assert_int_equal(strlen(cadre_error_message()), BASE_ERROR_MAX - 1);
    assert_memory_equal(cadre_error_message(), "where: xxx", 10);
    base_wrap(CADRE_EIO, "%s", text);
    assert_int_equal(strlen(cadre_error_message()), BASE_ERROR_MAX - 1);
}

static void *other_thread(void *seen)
{
    snprintf(seen, 16, "%s", cadre_error_message());
    base_error(CADRE_EIO, "theirs");
    return NULL;
}

static void each_thread_has_its_own(void **state)
{
    (void)state;
    char seen[16] = "none";
    pthread_t thread;
    base_error(CADRE_EIO, "ours");
    assert_int_equal(pthread_create(&thread, NULL, other_thread, seen), 0);
    pthread_join(thread, NULL);
    assert_string_equal(seen, "");
    assert_string_equal(cadre_error_message(), "ours");
}

static void errnos_map(void **state)
{
    (void)state;
    static const int map[][2] = {{0, CADRE_OK},
                                 {ENOMEM, CADRE_ENOMEM},
                                 {ENOSPC, CADRE_ENOSPC},
                                 {EDQUOT, CADRE_ENOSPC},
                                 {ENOTDIR, CADRE_ENOENT},
                                 {EEXIST, CADRE_EEXIST},
                                 {EROFS, CADRE_EACCES},
                                 {EPERM, CADRE_EACCES},
                                 {ETIMEDOUT, CADRE_ETIMEDOUT},
                                 {ECONNRESET, CADRE_ECLOSED},
                                 {EIO, CADRE_EIO},
                                 {EINVAL, CADRE_EINVAL},
                                 {EXDEV, CADRE_ESYSTEM}};
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        assert_int_equal(base_status_of_errno(map[i][0]), map[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_texts),
        cmocka_unit_test(layers_are_put_in_front),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(the_old_message_may_be_an_argument),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(each_thread_has_its_own),
        cmocka_unit_test(errnos_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
