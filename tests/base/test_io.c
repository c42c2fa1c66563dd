#include "test_base.h"

#include "base/fault.h"
#include "base/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "base-io-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    return chdir(base ? base : "/tmp") != 0 || !mkdtemp(folder) || chdir(folder) != 0;
}

static int remove_folder(void **state)
{
    (void)state;
    base_fault_set(NULL);
    return chdir("..") != 0 || base_remove_tree(folder) != CADRE_OK;
}

static int entries_of(const char *path)
{
    int count = 0;
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    return count;
}

static void assert_content(const char *path, const char *text)
{
    base_buffer buffer = {0};
    assert_ok(base_read_file(path, 1000, &buffer));
    assert_int_equal(buffer.length, strlen(text));
    assert_memory_equal(buffer.data, text, buffer.length);
    base_buffer_free(&buffer);
}

static void files_are_whole_or_not_at_all(void **state)
{
    (void)state;
    static const char *const points[] = {"alloc", "open", "write", "fsync", "rename"};
    static const char *const actions[] = {"fail", "enospc", "short"};
    assert_ok(base_mkdirs("whole", 0700));
    assert_ok(base_write_file("whole/file", "old", 3));
    for (size_t point = 0; point < 5; point++)
        for (size_t action = 0; action < 3; action++)
            for (int n = 1;; n++) {
                char spec[64];
                assert_ok(base_write_file("whole/file", "old", 3));
                snprintf(spec, sizeof spec, "%s:%d:%s", points[point], n, actions[action]);
                base_fault_set(spec);
                int status = base_write_file("whole/file", "new text", 8);
                base_fault_set(NULL);
                assert_int_equal(entries_of("whole"), 1);
                if (status == CADRE_OK)
                    break;
                bool renamed = strcmp(points[point], "fsync") == 0 && n == 2;
                renamed = renamed || (strcmp(points[point], "open") == 0 && n == 2);
                assert_content("whole/file", renamed ? "new text" : "old");
                assert_true(n < 10);
            }
    assert_content("whole/file", "new text");
    struct stat info;
    assert_int_equal(stat("whole/file", &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void reading_is_bounded_and_exact(void **state)
{
    (void)state;
    assert_ok(base_write_file("read", "0123456789", 10));
    base_buffer buffer = {0};
    assert_ok(base_buffer_append(&buffer, "x", 1));
    assert_int_equal(base_read_file("read", 9, &buffer), CADRE_EINVAL);
    assert_message_has("read: larger than the 9 bytes allowed");
    assert_int_equal(buffer.length, 1);
    assert_ok(base_read_file("read", 10, &buffer));
    assert_int_equal(buffer.length, 11);
    assert_int_equal(base_read_file("missing", 10, &buffer), CADRE_ENOENT);
    assert_message_has("open missing: ");
    base_fault_set("read:1");
    assert_int_equal(base_read_file("read", 10, &buffer), CADRE_EIO);
    base_fault_set(NULL);
    base_buffer_free(&buffer);

    char bytes[11];
    int fd = -1;
    assert_ok(base_open("read", O_RDONLY, 0, &fd));
    assert_int_equal(base_read_all(fd, bytes, 11, "read"), CADRE_ECORRUPT);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_ok(base_read_all(fd, bytes, 10, "read"));
    assert_memory_equal(bytes, "0123456789", 10);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    base_close(fd);
    base_close(-1);
}

static void directories_are_made_and_removed(void **state)
{
    (void)state;
    assert_ok(base_mkdirs("a/b//c/", 0700));
    assert_ok(base_mkdirs("a/b/c", 0700));
    assert_ok(base_mkdirs("/", 0700));
    assert_int_equal(base_mkdirs("", 0700), CADRE_EINVAL);
    assert_ok(base_write_file("a/b/file", "x", 1));
    assert_int_equal(base_mkdirs("a/b/file", 0700), CADRE_EEXIST);
    assert_int_equal(base_mkdirs("a/b/file/under", 0700), CADRE_EEXIST);
    base_fault_set("mkdir:2:enospc");
    assert_int_equal(base_mkdirs("a/new", 0700), CADRE_ENOSPC);
    base_fault_set(NULL);
    assert_false(base_exists("a/new"));

    assert_ok(base_mkdirs("outside", 0700));
    assert_ok(base_write_file("outside/kept", "x", 1));
    assert_int_equal(symlink("../../outside", "a/b/link"), 0);
    assert_int_equal(symlink("nowhere", "a/b/dangling"), 0);
    assert_ok(base_remove_tree("a"));
    assert_false(base_exists("a"));
    assert_true(base_exists("outside/kept"));
    assert_ok(base_remove_tree("a"));
    assert_ok(base_remove_tree("outside/kept"));
    assert_false(base_exists("outside/kept"));
}

static void paths_join(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *joined = base_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

static void errors_name_the_file(void **state)
{
    (void)state;
    int fd = -1;
    assert_int_equal(base_open("no/such", O_RDONLY, 0, &fd), CADRE_ENOENT);
    assert_message_has("open no/such: ");
    assert_int_equal(fd, -1);
    assert_int_equal(base_rename("no", "such"), CADRE_ENOENT);
    assert_message_has("rename no to such: ");
    assert_int_equal(base_fsync_dir("no"), CADRE_ENOENT);
    if (access("/dev/full", W_OK) == 0) {
        assert_ok(base_open("/dev/full", O_WRONLY, 0, &fd));
        assert_int_equal(base_write_all(fd, "x", 1, "/dev/full"), CADRE_ENOSPC);
        assert_message_has("write /dev/full: ");
        base_close(fd);
    }
    assert_null(base_network_filesystem("/proc"));
    assert_null(base_network_filesystem("no/such"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_whole_or_not_at_all),
        cmocka_unit_test(reading_is_bounded_and_exact),
        cmocka_unit_test(directories_are_made_and_removed),
        cmocka_unit_test(paths_join),
        cmocka_unit_test(errors_name_the_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
