/* Strangers: who else may call at a group's door, and what another user may have put where we keep our things. Nothing comes of it. */
#include "support.h"

#include "base/clock.h"
#include "base/frame.h"
#include "cadre/log.h"
#include "trainer/launch/door.h"
#include "trainer/message.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORLD = 2, ATTEMPT = 3, NOBODY = 65534, CROWD = 1000 };

/* ---- a group whose workers are played ------------------------------------------------------------------------------------------------- */

static struct stage {
    uv_loop_t loop;
    uv_timer_t undertaker;
    trainer_launcher launcher;
    trainer_group group;
    cadre_trainer trainer;
    door *door;
    int messages, ended, lines;
    char said[4096]; /* the log's lines, each with its end */
    group_outcome outcome;
} stage;

static int play_start(trainer_launcher *launcher, trainer_group *group)
{
    (void)launcher;
    for (int rank = 0; rank < group->world; rank++)
        group->workers[rank].started = true;
    return door_open(group, &stage.door);
}

static void bury(uv_timer_t *timer)
{
    (void)timer;
    for (int rank = 0; rank < WORLD; rank++)
        group_exited(&stage.group, rank, SIGKILL);
}

static void play_signal(trainer_launcher *launcher, trainer_group *group, int number)
{
    (void)launcher;
    (void)group;
    if (number == SIGKILL)
        uv_timer_start(&stage.undertaker, bury, 1, 0);
}

static void play_release(trainer_launcher *launcher, trainer_group *group)
{
    (void)launcher;
    (void)group;
    door_close(stage.door);
    stage.door = NULL;
}

static int take(trainer_group *group, const json_t *message, json_t **reply)
{
    (void)group;
    (void)message;
    (void)reply;
    stage.messages++;
    return CADRE_OK;
}

static json_t *start_message(trainer_group *group, int rank)
{
    (void)rank;
    return message_new("start", group->attempt);
}

static void note_end(trainer_group *group, const group_outcome *outcome)
{
    stage.ended++;
    stage.outcome = *outcome;
    group_free(group);
}

static void note_line(cadre_log_level level, const char *room, const char *message, void *user)
{
    (void)user;
    (void)room;
    assert_int_equal(level, CADRE_LOG_WARN);
    stage.lines++;
    size_t used = strlen(stage.said);
    snprintf(stage.said + used, sizeof stage.said - used, "%s\n", message);
}

static void begin(void)
{
    memset(&stage, 0, sizeof stage);
    cadre_log_set(note_line, NULL, CADRE_LOG_WARN);
    assert_int_equal(uv_loop_init(&stage.loop), 0);
    uv_timer_init(&stage.loop, &stage.undertaker);
    stage.launcher = (trainer_launcher){.name = "played", .start = play_start, .signal = play_signal, .release = play_release};
    stage.group = (trainer_group){.trainer = &stage.trainer, .attempt = ATTEMPT, .world = WORLD, .on_message = take, .on_hello = start_message,
                                  .on_end = note_end, .directory = strdup("somewhere")};
    assert_int_equal(group_start(&stage.group, &stage.loop, &stage.launcher), CADRE_OK);
    assert_int_equal(stage.group.outcome.status, CADRE_OK);
}

static void turn(void)
{
    for (int i = 0; i < 6; i++)
        uv_run(&stage.loop, UV_RUN_NOWAIT);
}

static const char *address(void)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/controller", door_directory(stage.door));
    return path;
}

static int connect_to(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    assert_true(strlen(path) < sizeof to.sun_path);
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void say(int fd, const char *text) { assert_int_equal(base_frame_send(fd, text, strlen(text), base_now_ns() + INT64_C(1000000000)), CADRE_OK); }

static const char *hello(const char *key, int attempt, int rank)
{
    static char text[300];
    snprintf(text, sizeof text, "{\"t\":\"hello\",\"a\":%d,\"rank\":%d,\"pid\":1,\"host\":\"here\",\"key\":\"%s\"}", attempt, rank, key);
    return text;
}

/* Its connection is closed, and that is all that it hears. */
static void assert_refused(int fd, const char *line)
{
    char byte;
    int before = stage.lines;
    turn();
    assert_true(recv(fd, &byte, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN);
    close(fd);
    if (stage.lines != before + 1 || !strstr(stage.said, line))
        fail_msg("%d lines instead of one with \"%s\": %s", stage.lines - before, line, stage.said);
    assert_int_equal(stage.ended, 0);
    assert_false(stage.group.ending);
    stage.said[0] = '\0';
}

static void stranger_says(const void *bytes, size_t nbytes, const char *line)
{
    int fd = connect_to(address());
    errno = 0;
    assert_true(fd >= 0);
    assert_int_equal(send(fd, bytes, nbytes, MSG_NOSIGNAL), nbytes);
    assert_refused(fd, line);
}

static void stranger_frames(const char *text, const char *line)
{
    int fd = connect_to(address());
    assert_true(fd >= 0);
    say(fd, text);
    assert_refused(fd, line);
}

/* The two workers call in, train and go: the end of every test here, whatever came before. */
static int call_in(int rank)
{
    char text[300];
    int fd = connect_to(address());
    assert_true(fd >= 0);
    say(fd, hello(door_key(stage.door), ATTEMPT, rank));
    ssize_t got = -1;
    for (double deadline = base_now() + 5; got < 0 && base_now() < deadline; got = recv(fd, text, sizeof text, MSG_DONTWAIT))
        turn();
    if (got <= 4 || !memmem(text + 4, (size_t)got - 4, "start", 5))
        fail_msg("rank %d hears no start: %s", rank, stage.said);
    assert_true(stage.group.workers[rank].greeted);
    assert_int_equal(stage.group.workers[rank].pid, getpid()); /* who it is, not who it says it is */
    return fd;
}

/* The workers are gone, and all is well; nothing is left open. */
static void expect_end(void)
{
    for (int rank = 0; rank < WORLD; rank++)
        group_exited(&stage.group, rank, 0);
    for (double deadline = base_now() + 5; !stage.ended && base_now() < deadline;)
        uv_run(&stage.loop, UV_RUN_NOWAIT);
    assert_int_equal(stage.ended, 1);
    assert_int_equal(stage.outcome.status, CADRE_OK);
    uv_close((uv_handle_t *)&stage.undertaker, NULL);
    uv_run(&stage.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&stage.loop), 0);
    cadre_log_set(NULL, NULL, CADRE_LOG_WARN);
}

static void end_well(int *fds)
{
    char directory[200];
    snprintf(directory, sizeof directory, "%s", door_directory(stage.door));
    for (int rank = 0; rank < WORLD; rank++) {
        char text[100];
        snprintf(text, sizeof text, "{\"t\":\"done\",\"a\":%d,\"status\":0}", ATTEMPT);
        say(fds[rank], text);
    }
    turn();
    expect_end();
    assert_false(file_exists(directory));
    for (int rank = 0; rank < WORLD; rank++)
        close(fds[rank]);
}

/* ---- strangers --------------------------------------------------------------------------------------------------------------------------- */

static void private_place(void **state)
{
    (void)state;
    struct stat info;
    begin();
    assert_int_equal(stat(door_directory(stage.door), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    assert_int_equal(info.st_uid, geteuid());
    assert_int_equal(strlen(door_key(stage.door)), 32);
    char first[64];
    snprintf(first, sizeof first, "%s", door_key(stage.door));
    int fds[WORLD] = {call_in(0), call_in(1)};
    end_well(fds);
    begin();
    assert_string_not_equal(first, door_key(stage.door)); /* a key is one group's */
    int again[WORLD] = {call_in(0), call_in(1)};
    end_well(again);
    assert_int_equal(stage.lines, 0);
}

static void words_of_strangers(void **state)
{
    (void)state;
    begin();
    char key[64], wrong[64], large[5000];
    snprintf(key, sizeof key, "%s", door_key(stage.door));
    memset(wrong, '0', sizeof wrong);
    wrong[32] = '\0';
    stranger_says("GET / HTTP/1.1\r\n\r\n", 18, "announces");
    stranger_says("\xff\xff\xff\xff", 4, "announces 4294967295 bytes");
    stranger_says("\0\0\0\0", 4, "no JSON");
    stranger_says("\5\0\0\0\0\0\0\0\0", 9, "no JSON");
    memset(large, '[', sizeof large); /* within a frame's limit, but more than a hello */
    memcpy(large, "\x80\x13\0\0", 4);
    stranger_says(large, 4100, "longer than a hello");
    stranger_frames("{\"t\":\"hello\"}", "without kind or attempt");
    stranger_frames("{\"t\":\"report\",\"a\":3,\"report\":1,\"metrics\":[[\"loss\",0]]}", "no hello");
    stranger_frames(hello("", ATTEMPT, 0), "key");
    stranger_frames(hello(wrong, ATTEMPT, 0), "key");
    int fds[WORLD] = {call_in(0), -1};
    /* More of them are refused, and not mentioned any more. */
    stranger_frames(hello(key, ATTEMPT - 1, 1), "another attempt");
    static const struct {
        int attempt, rank;
    } later[] = {{ATTEMPT + 1, 1}, {ATTEMPT, 0}, {ATTEMPT, 2}, {ATTEMPT, -1}, {ATTEMPT, 1 << 30}};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        char byte;
        int fd = connect_to(address()), before = stage.lines;
        say(fd, hello(key, later[i].attempt, later[i].rank));
        turn();
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
        close(fd);
        assert_int_equal(stage.lines, before);
    }
    fds[1] = call_in(1);
    assert_int_equal(stage.messages, 0);
    end_well(fds);
}

/* What a worker once said is said again, while it lives and after. */
static void replayed(void **state)
{
    (void)state;
    char recorded[300];
    begin();
    int fds[WORLD] = {call_in(0), call_in(1)};
    snprintf(recorded, sizeof recorded, "%s", hello(door_key(stage.door), ATTEMPT, 1));
    stranger_frames(recorded, "has called already");
    char text[100];
    snprintf(text, sizeof text, "{\"t\":\"done\",\"a\":%d,\"status\":0}", ATTEMPT);
    say(fds[1], text);
    close(fds[1]);
    turn();
    stranger_frames(recorded, "has called already"); /* though its place is free */
    fds[1] = dup(fds[0]);
    say(fds[0], text);
    turn();
    assert_int_equal(stage.ended, 0);
    expect_end();
    close(fds[0]);
    close(fds[1]);
}

/* A crowd that says nothing or half of something: whoever is a worker comes through. */
static void crowd(void **state)
{
    (void)state;
    static int fds[CROWD];
    struct rlimit was, less;
    getrlimit(RLIMIT_NOFILE, &was);
    if (was.rlim_max < CROWD + 200)
        skip();
    begin();
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = CROWD + 200, .rlim_max = was.rlim_max});
    for (int i = 0; i < CROWD; i++) {
        fds[i] = connect_to(address());
        assert_true(fds[i] >= 0);
        if (i % 2)
            assert_true(send(fds[i], "\x40\0\0\0{\"t\":", 10, MSG_NOSIGNAL) > 0);
        if (i % 16 == 15)
            turn();
    }
    int own[WORLD] = {call_in(0), call_in(1)};
    assert_true(stage.lines <= 10);
    int kept = 0;
    for (int i = 0; i < CROWD; i++) {
        char byte;
        kept += recv(fds[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }
    assert_true(kept <= WORLD + 64);
    for (int i = 0; i < CROWD; i++)
        close(fds[i]);
    turn();
    /* No descriptor is left to hear one with: it is heard when there is one again. */
    less = (struct rlimit){.rlim_cur = 3, .rlim_max = was.rlim_max};
    int late = connect_to(address());
    say(late, "{}");
    setrlimit(RLIMIT_NOFILE, &less);
    turn();
    int turns = 0;
    for (double until = base_now() + 0.3; base_now() < until; turns++)
        uv_run(&stage.loop, UV_RUN_ONCE);
    assert_true(turns < 50); /* it waits, and does not turn for nothing */
    setrlimit(RLIMIT_NOFILE, &was);
    char byte;
    double deadline = base_now() + 5;
    while (recv(late, &byte, 1, MSG_DONTWAIT) < 0 && base_now() < deadline)
        uv_run(&stage.loop, UV_RUN_NOWAIT);
    assert_true(base_now() < deadline);
    close(late);
    setrlimit(RLIMIT_NOFILE, &was);
    end_well(own);
}

/* Another user cannot so much as reach the socket; were the directory open to all, it would be refused as what it is. */
static void another_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    begin();
    for (int open = 0; open < 2; open++) {
        if (open) {
            assert_int_equal(chmod(door_directory(stage.door), 0711), 0);
            assert_int_equal(chmod(address(), 0666), 0);
            chmod(in_scratch("."), 0711);
            chmod(in_scratch("runtime"), 0711);
        }
        pid_t pid = fork();
        if (pid == 0) {
            if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
                _exit(9);
            int fd = connect_to(address());
            if (fd < 0)
                _exit(1);
            const char *text = hello(door_key(stage.door), ATTEMPT, 0);
            char byte;
            (void)base_frame_send(fd, text, strlen(text), base_now_ns() + INT64_C(1000000000));
            _exit(read(fd, &byte, 1) <= 0 ? 0 : 2); /* closed, not answered */
        }
        int wait_status = -1;
        for (double deadline = base_now() + 10; waitpid(pid, &wait_status, WNOHANG) == 0 && base_now() < deadline;)
            uv_run(&stage.loop, UV_RUN_NOWAIT);
        assert_true(WIFEXITED(wait_status));
        assert_int_equal(WEXITSTATUS(wait_status), open ? 0 : 1);
        assert_int_equal(stage.lines, open);
    }
    assert_non_null(strstr(stage.said, "a process of user 65534"));
    int fds[WORLD] = {call_in(0), call_in(1)};
    end_well(fds);
}

/* A worker does not talk to a controller of somebody else's either. */
static void another_controller(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ready[2];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", in_scratch("theirs"));
    chmod(in_scratch("."), 0777);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0 || bind(listener, (struct sockaddr *)&to, sizeof to) != 0 || listen(listener, 4) != 0)
            _exit(9);
        if (write(ready[1], "", 1) != 1)
            _exit(9);
        char byte;
        int fd = accept(listener, NULL, NULL);
        _exit(read(fd, &byte, 1) == 0 ? 0 : 2); /* it says nothing */
    }
    char byte;
    close(listener);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    setenv("CADRE_WORKER_TRAINER", "theirs", 1);
    setenv("CADRE_WORKER_SOCKET", to.sun_path, 1);
    setenv("CADRE_WORKER_CALL", "1", 1);
    int code = job_run("theirs", "workers=1");
    unsetenv("CADRE_WORKER_TRAINER");
    unsetenv("CADRE_WORKER_SOCKET");
    unsetenv("CADRE_WORKER_CALL");
    assert_int_equal(code, 1);
    assert_non_null(strstr(job_output("theirs"), "a process of user 65534"));
    int wait_status = -1;
    assert_int_equal(waitpid(pid, &wait_status, 0), pid);
    assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
    close(ready[0]);
    close(ready[1]);
}

/* ---- where we keep our things -------------------------------------------------------------------------------------------------------------- */

static void another_directory(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_scratch("runs"), 0755), 0);
    assert_int_equal(mkdir(in_scratch("runs/open"), 0700), 0);
    assert_int_equal(chmod(in_scratch("runs/open"), 0707), 0);
    job_expect("open", "workers=1", "EACCES");
    assert_non_null(strstr(job_answer("open", "message"), "everybody may write in"));
    assert_false(file_exists(in_scratch("runs/open/cadre.db")));
    assert_int_equal(mkdir(in_scratch("elsewhere"), 0700), 0);
    assert_int_equal(symlink(in_scratch("elsewhere"), in_scratch("runs/own-link")), 0);
    job_expect("own-link", "workers=1", "OK"); /* people do that, for a larger disk */
    assert_true(file_exists(in_scratch("elsewhere/cadre.db")));
    assert_int_equal(mkdir(in_scratch("shared"), 0700), 0);
    assert_int_equal(chmod(in_scratch("shared"), 0777), 0);
    char words[1100];
    snprintf(words, sizeof words, "workers=1 storage=%s", in_scratch("shared"));
    assert_int_equal(job_run("in-shared", words), 0); /* people share such directories: it is said */
    assert_non_null(strstr(job_output("in-shared"), "others may exchange what is made in"));
    if (geteuid() != 0)
        return;
    assert_int_equal(mkdir(in_scratch("runs/theirs"), 0755), 0);
    assert_int_equal(chown(in_scratch("runs/theirs"), NOBODY, NOBODY), 0);
    job_expect("theirs", "workers=1", "EACCES");
    assert_non_null(strstr(job_answer("theirs", "message"), "belongs to user 65534"));
    assert_false(file_exists(in_scratch("runs/theirs/cadre.db")));
    assert_int_equal(mkdir(in_scratch("ours"), 0700), 0);
    assert_int_equal(symlink(in_scratch("ours"), in_scratch("runs/link")), 0);
    assert_int_equal(lchown(in_scratch("runs/link"), NOBODY, NOBODY), 0);
    job_expect("link", "workers=1", "EACCES");
    assert_non_null(strstr(job_answer("link", "message"), "a symbolic link that user 65534 has made"));
    assert_false(file_exists(in_scratch("ours/cadre.db")));
    /* A runtime directory that another user could exchange is not used; the group still has its place. */
    assert_int_equal(mkdir(in_scratch("theirs-too"), 0777), 0);
    assert_int_equal(chown(in_scratch("theirs-too"), NOBODY, NOBODY), 0);
    setenv("XDG_RUNTIME_DIR", in_scratch("theirs-too"), 1);
    begin();
    assert_ptr_equal(strstr(door_directory(stage.door), "/tmp/cadre-"), door_directory(stage.door));
    int fds[WORLD] = {call_in(0), call_in(1)};
    end_well(fds);
}

/* Whatever umask the user has: nobody else may read what a run leaves. */
static void modes(void **state)
{
    (void)state;
    static const char *const words[] = {"workers=2 every=2", "launcher=inproc every=2", "workers=2 every=2 thread=1", "launcher=mpirun every=2", "attached=2 every=2"};
    mode_t was = umask(0);
    for (int i = 0; i < (can_attach() ? 5 : 4); i++) {
        char name[32];
        snprintf(name, sizeof name, "modes%d", i);
        assert_int_equal(job_run(name, words[i]), 0);
        char command[1200];
        snprintf(command, sizeof command, "find %s -perm /077 ! -type l > %s", in_scratch("runs/%s", name), in_scratch("found"));
        assert_int_equal(system(command), 0);
        struct stat info;
        assert_int_equal(stat(in_scratch("found"), &info), 0);
        if (info.st_size != 0) {
            snprintf(command, sizeof command, "cat %s >&2", in_scratch("found"));
            assert_int_equal(system(command), 0);
            fail_msg("%s: others may read that", words[i]);
        }
    }
    umask(was);
}

/* ---- a run, while all that goes on ------------------------------------------------------------------------------------------------------------ */

/* A file of each process that there is, as one text with zeros in it. */
static void look_at_processes(const char *file, void (*look)(const char *text, size_t nbytes, const char *what, char *out), const char *what, char *out)
{
    glob_t all = {0};
    char pattern[64];
    static char text[1 << 18];
    snprintf(pattern, sizeof pattern, "/proc/[0-9]*/%s", file);
    assert_int_equal(glob(pattern, 0, NULL, &all), 0);
    for (size_t i = 0; i < all.gl_pathc; i++) {
        FILE *in = fopen(all.gl_pathv[i], "r");
        size_t got = in ? fread(text, 1, sizeof text, in) : 0;
        if (in)
            fclose(in);
        look(text, got, what, out);
    }
    globfree(&all);
}

static void take_key(const char *text, size_t nbytes, const char *what, char *out)
{
    static const char name[] = "CADRE_WORKER_KEY=";
    const char *key = memmem(text, nbytes, what, strlen(what)) ? memmem(text, nbytes, name, sizeof name - 1) : NULL;
    if (key)
        snprintf(out, 64, "%.32s", key + sizeof name - 1);
}

static void assert_without(const char *text, size_t nbytes, const char *what, char *out)
{
    (void)out;
    assert_null(memmem(text, nbytes, what, strlen(what)));
}

static void besieged(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 epochs=6", "OK");
    job job = job_start("besieged", "workers=2 launcher=mpirun epochs=6 sleep_us=60000");
    glob_t found = {0};
    double deadline = base_now() + 20;
    while (base_now() < deadline && glob(in_scratch("runtime/cadre-*/controller"), 0, NULL, &found) != 0)
        usleep(1000);
    assert_int_equal(found.gl_pathc, 1);
    /* Nothing secret is on a command line, and the strangers are many from before the first worker on. */
    int fds[200];
    for (int i = 0; i < 200; i++) {
        while ((fds[i] = connect_to(found.gl_pathv[0])) < 0 && base_now() < deadline) /* it is there, but nobody listens yet */
            usleep(1000);
        assert_true(fds[i] >= 0);
        if (i % 3 == 1)
            (void)!send(fds[i], "\x40\0\0\0{", 5, MSG_NOSIGNAL);
        if (i % 3 == 2)
            say(fds[i], hello("", 0, i % 2));
    }
    wait_for_lines(in_scratch("runs/besieged/trial-00000/result.json"), 1);
    char key[64] = "";
    look_at_processes("environ", take_key, found.gl_pathv[0], key);
    assert_int_equal(strlen(key), 32);
    look_at_processes("cmdline", assert_without, key, NULL);
    job_wait(&job, 60);
    for (int i = 0; i < 200; i++)
        close(fds[i]);
    globfree(&found);
    assert_string_equal(job_answer("besieged", "attempts"), "1");
    assert_like("besieged", "undisturbed", 2);
    assert_non_null(strstr(job_output("besieged"), "a connection that is no worker of this group was refused"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(private_place, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(words_of_strangers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(replayed, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(crowd, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(another_user, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(another_controller, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(another_directory, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(modes, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(besieged, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: security", tests, NULL, NULL);
}
