/* A worker group between a launcher that is played and workers that may say anything: what is refused, in which order things may come, who is blamed. */
#include "support.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/frame.h"
#include "trainer/group.h"
#include "trainer/message.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORLD = 3, ATTEMPT = 4 };

/* ---- the launcher's part -------------------------------------------------------------------------------------------------------------- */

static struct stage {
    uv_loop_t loop;
    trainer_launcher launcher;
    trainer_group group;
    cadre_trainer trainer;
    uv_timer_t undertaker; /* tells the exits of those that were killed, a little later */
    int peers[WORLD];      /* the workers' ends; -1: closed */
    bool alive[WORLD];
    int fail_at;           /* this rank cannot be started; -1: all can */
    int signals[65], released, ended, messages;
    char last[64];
    group_outcome outcome;
} stage;

static void bury(uv_timer_t *timer)
{
    (void)timer;
    for (int rank = 0; rank < WORLD; rank++)
        if (stage.alive[rank]) {
            stage.alive[rank] = false;
            group_exited(&stage.group, rank, SIGKILL);
        }
}

static int play_start(trainer_launcher *launcher, trainer_group *group)
{
    (void)launcher;
    for (int rank = 0; rank < group->world; rank++) {
        int pair[2];
        if (rank == stage.fail_at)
            return base_error(CADRE_ESYSTEM, "no such luck");
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        stage.peers[rank] = pair[1];
        stage.alive[rank] = group->workers[rank].started = true;
        assert_int_equal(group_connect(group, rank, pair[0]), CADRE_OK);
    }
    return CADRE_OK;
}

static void play_signal(trainer_launcher *launcher, trainer_group *group, int number)
{
    (void)launcher;
    (void)group;
    stage.signals[number]++;
    if (number == SIGKILL)
        uv_timer_start(&stage.undertaker, bury, 2, 0);
}

static void play_release(trainer_launcher *launcher, trainer_group *group)
{
    (void)launcher;
    (void)group;
    stage.released++;
}

/* ---- the controller's part -------------------------------------------------------------------------------------------------------------- */

static int take(trainer_group *group, const json_t *message, json_t **reply)
{
    (void)group;
    stage.messages++;
    snprintf(stage.last, sizeof stage.last, "%s", message_kind(message));
    if (message_is(message, "refused"))
        return base_error(CADRE_ENOSPC, "the disk is full");
    if (message_is(message, "report"))
        *reply = message_new("ack", ATTEMPT);
    return CADRE_OK;
}

static json_t *start_message(trainer_group *group, int rank)
{
    json_t *message = message_new("start", group->attempt);
    message_set_int(message, "rank", rank);
    return message;
}

static void note_end(trainer_group *group, const group_outcome *outcome)
{
    (void)group;
    stage.ended++;
    stage.outcome = *outcome;
}

static void begin(int fail_at)
{
    memset(&stage, 0, sizeof stage);
    stage.fail_at = fail_at;
    for (int rank = 0; rank < WORLD; rank++)
        stage.peers[rank] = -1;
    assert_int_equal(uv_loop_init(&stage.loop), 0);
    uv_timer_init(&stage.loop, &stage.undertaker);
    stage.launcher = (trainer_launcher){.name = "played", .start = play_start, .signal = play_signal, .release = play_release};
    stage.group = (trainer_group){.trainer = &stage.trainer, .attempt = ATTEMPT, .world = WORLD, .on_message = take, .on_hello = start_message, .on_end = note_end};
    assert_int_equal(group_start(&stage.group, &stage.loop, &stage.launcher), CADRE_OK);
}

/* Let the loop take what is there. */
static void turn(void)
{
    for (int i = 0; i < 4; i++)
        uv_run(&stage.loop, UV_RUN_NOWAIT);
}

static void until_end(double seconds)
{
    double deadline = base_now() + seconds;
    while (!stage.ended) {
        uv_run(&stage.loop, UV_RUN_ONCE);
        if (base_now() > deadline)
            fail_msg("the group does not end");
    }
}

/* The end has come once, and nothing of it is left. */
static void finish(int status, const char *cause, int rank, const char *part)
{
    until_end(8);
    if (stage.outcome.status != status || strcmp(stage.outcome.cause, cause) != 0 || stage.outcome.rank != rank || !strstr(stage.outcome.detail, part))
        fail_msg("%s %s of rank %d: %s", cadre_status_name(stage.outcome.status), stage.outcome.cause, stage.outcome.rank, stage.outcome.detail);
    for (int rank_at = 0; rank_at < WORLD; rank_at++)
        if (stage.peers[rank_at] >= 0)
            close(stage.peers[rank_at]);
    uv_close((uv_handle_t *)&stage.undertaker, NULL);
    assert_int_equal(uv_run(&stage.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&stage.loop), 0);
    assert_int_equal(stage.ended, 1);
    assert_int_equal(stage.released, 1);
    group_free(&stage.group);
}

/* ---- the workers' part ------------------------------------------------------------------------------------------------------------------- */

static void say_bytes(int rank, const void *bytes, size_t nbytes) { assert_int_equal(write(stage.peers[rank], bytes, nbytes), nbytes); }

static void say(int rank, const char *text) { assert_int_equal(base_frame_send(stage.peers[rank], text, strlen(text), base_now_ns() + 1000000000), CADRE_OK); }

static void say_kind(int rank, const char *kind)
{
    char text[100];
    snprintf(text, sizeof text, "{\"t\":\"%s\",\"a\":%d}", kind, ATTEMPT);
    say(rank, text);
}

static void say_done(int rank, int status, const char *message)
{
    char text[300];
    snprintf(text, sizeof text, "{\"t\":\"done\",\"a\":%d,\"status\":%d,\"message\":\"%s\"}", ATTEMPT, status, message);
    say(rank, text);
}

static void leave(int rank, int wait_status)
{
    close(stage.peers[rank]);
    stage.peers[rank] = -1;
    stage.alive[rank] = false;
    group_exited(&stage.group, rank, wait_status);
}

/* The next message to a worker, as text; "" when there is none. */
static const char *hear(int rank)
{
    static char text[8192];
    static base_buffer inputs[WORLD];
    const unsigned char *payload;
    size_t nbytes;
    bool whole;
    turn();
    *text = '\0';
    if (base_frame_receive(stage.peers[rank], &inputs[rank], 0) == CADRE_OK && base_frame_next(&inputs[rank], &payload, &nbytes, &whole) == CADRE_OK) {
        snprintf(text, sizeof text, "%.*s", (int)nbytes, (const char *)payload);
        base_buffer_consume(&inputs[rank], nbytes + 4);
    }
    if (inputs[rank].length == 0)
        base_buffer_free(&inputs[rank]);
    return text;
}

static void assert_hears(int rank, const char *part)
{
    const char *text = hear(rank);
    if (!strstr(text, part))
        fail_msg("rank %d hears \"%s\" instead of %s", rank, text, part);
}

static void all_greet(void)
{
    for (int rank = 0; rank < WORLD; rank++) {
        say_kind(rank, "hello");
        assert_hears(rank, "\"start\"");
    }
}

/* ---- what goes well -------------------------------------------------------------------------------------------------------------------- */

static void orderly(void **state)
{
    (void)state;
    begin(-1);
    all_greet();
    say_kind(0, "report");
    assert_hears(0, "\"ack\"");
    say_kind(1, "beat");
    for (int rank = WORLD - 1; rank >= 0; rank--)
        say_done(rank, 0, "");
    turn();
    assert_int_equal(stage.ended, 0); /* they have to go first */
    for (int rank = 0; rank < WORLD; rank++)
        leave(rank, 0);
    finish(CADRE_OK, "finished", -1, "");
    assert_int_equal(stage.messages, 2);
    assert_int_equal(stage.signals[SIGKILL], 0);

    begin(-1); /* exits are told while the last words are still in the channels */
    all_greet();
    say_kind(0, "report");
    for (int rank = 0; rank < WORLD; rank++)
        say_done(rank, 0, "");
    for (int rank = 0; rank < WORLD; rank++)
        leave(rank, 0);
    finish(CADRE_OK, "finished", -1, "");
    assert_int_equal(stage.messages, 1);

    begin(-1); /* byte by byte */
    all_greet();
    const char *text = "{\"t\":\"report\",\"a\":4}";
    unsigned char header[4] = {(unsigned char)strlen(text)};
    for (int i = 0; i < 4; i++) {
        say_bytes(0, header + i, 1);
        turn();
    }
    for (size_t i = 0; text[i]; i++) {
        assert_int_equal(stage.messages, 0);
        say_bytes(0, text + i, 1);
        turn();
    }
    assert_int_equal(stage.messages, 1);
    for (int rank = 0; rank < WORLD; rank++) {
        say_done(rank, rank == 1 ? CADRE_STOP : CADRE_OK, "");
        leave(rank, 0);
    }
    finish(CADRE_STOP, "stopped", -1, "");
}

/* A message of an attempt that is over is dropped, whatever it says. */
static void old_attempts(void **state)
{
    (void)state;
    begin(-1);
    all_greet();
    say(0, "{\"t\":\"report\",\"a\":3}");
    say(0, "{\"t\":\"done\",\"a\":3,\"status\":-1}");
    say(1, "{\"t\":\"report\",\"a\":3}");
    say(2, "{\"t\":\"hello\",\"a\":-1}");
    say(2, "{\"t\":\"report\",\"a\":9223372036854775807}");
    say(2, "{\"t\":\"report\",\"a\":4294967300}");
    turn();
    assert_int_equal(stage.messages, 0);
    assert_int_equal(stage.ended, 0);
    for (int rank = 0; rank < WORLD; rank++) {
        say_done(rank, 0, "");
        leave(rank, 0);
    }
    finish(CADRE_OK, "finished", -1, "");
}

static void gathers(void **state)
{
    (void)state;
    begin(-1);
    all_greet();
    say(1, "{\"t\":\"gather\",\"a\":4,\"seq\":1,\"data\":\"b0\"}");
    say(0, "{\"t\":\"gather\",\"a\":4,\"seq\":1,\"data\":\"a0\"}");
    turn();
    assert_string_equal(hear(0), "");
    say(2, "{\"t\":\"gather\",\"a\":4,\"seq\":1,\"data\":\"c0\"}");
    for (int rank = 0; rank < WORLD; rank++)
        assert_hears(rank, "[\"a0\",\"b0\",\"c0\"]");
    say(2, "{\"t\":\"gather\",\"a\":4,\"seq\":2,\"data\":\"\"}");
    turn();
    say(1, "{\"t\":\"gather\",\"a\":4,\"seq\":3,\"data\":\"\"}");
    finish(CADRE_ETRAIN, "failed", 1, "out of turn");
}

/* ---- nonsense ------------------------------------------------------------------------------------------------------------------------------ */

static void nonsense(void **state)
{
    (void)state;
    static const struct {
        int rank;
        const char *text, *detail;
    } cases[] = {
        {0, "", "no JSON"},
        {0, "hello", "no JSON"},
        {1, "[1,2,3]", "without kind or attempt"},
        {2, "{\"t\":\"beat\"}", "without kind or attempt"},
        {2, "{\"a\":4}", "without kind or attempt"},
        {0, "{\"t\":7,\"a\":4}", "without kind or attempt"},
        {0, "{\"t\":\"beat\",\"a\":4.0}", "without kind or attempt"},
        {0, "{\"t\":\"beat\",\"a\":\"4\"}", "without kind or attempt"},
        {0, "{\"t\":\"beat\",\"a\":4,\"a\":4}", "no JSON"},
        {0, "{\"t\":\"beat\",\"a\":4}x", "no JSON"},
        {0, "{\"t\":\"be\xff\",\"a\":4}", "no JSON"},
        {0, "{\"t\":\"be\\u0000at\",\"a\":4}", "no JSON"},
        {1, "{\"t\":\"report\",\"a\":4}", "which only rank 0 may"},
        {2, "{\"t\":\"checkpoint\",\"a\":4}", "which only rank 0 may"},
        {1, "{\"t\":\"hello\",\"a\":4}", "hello twice"},
        {1, "{\"t\":\"gather\",\"a\":4,\"seq\":1}", "out of turn"},
        {1, "{\"t\":\"gather\",\"a\":4,\"seq\":1,\"data\":[]}", "out of turn"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(-1);
        all_greet();
        say(cases[i].rank, cases[i].text);
        say_kind(cases[i].rank, "beat"); /* comes too late to be looked at */
        finish(CADRE_ETRAIN, "failed", cases[i].rank, cases[i].detail);
        assert_int_equal(stage.messages, 0);
    }
    begin(-1); /* announces more than may be: refused before anything of it has come */
    all_greet();
    say_bytes(1, "\xff\xff\xff\xff", 4);
    finish(CADRE_ETRAIN, "failed", 1, "announces 4294967295 bytes");
    begin(-1);
    all_greet();
    say_bytes(1, "\x01\x00\x40\x00", 4); /* one byte over the limit */
    finish(CADRE_ETRAIN, "failed", 1, "announces 4194305 bytes");
    begin(-1);
    static char deep[400000];
    memset(deep, '[', sizeof deep - 1);
    say(0, "{\"t\":\"hello\",\"a\":4}");
    turn();
    size_t sent = 0;
    unsigned char header[4] = {(sizeof deep - 1) & 255, (sizeof deep - 1) >> 8 & 255, (sizeof deep - 1) >> 16};
    say_bytes(0, header, 4);
    while (sent < sizeof deep - 1) {
        ssize_t done = write(stage.peers[0], deep + sent, sizeof deep - 1 - sent);
        sent += done > 0 ? (size_t)done : 0;
        turn();
    }
    finish(CADRE_ETRAIN, "failed", 0, "no JSON");
    begin(-1);
    all_greet();
    say_done(1, 0, "");
    say_kind(1, "beat");
    finish(CADRE_ETRAIN, "failed", 1, "after its last word");
    begin(-1); /* what the record refuses is no failure of the training, and keeps its status */
    all_greet();
    say_kind(0, "refused");
    finish(CADRE_ENOSPC, "failed", -1, "the disk is full");
}

/* ---- who is to blame ------------------------------------------------------------------------------------------------------------------------ */

static void blame(void **state)
{
    (void)state;
    begin(-1); /* those who lost a peer speak first */
    all_greet();
    say_done(0, CADRE_EPEER, "rank 2 is gone");
    turn();
    say_done(1, CADRE_ESTATE, "the communicator is broken");
    turn();
    leave(2, SIGBUS);
    finish(CADRE_ETRAIN, "killed", 2, "signal 7");
    assert_int_equal(stage.outcome.signal, SIGBUS);

    begin(-1); /* one launcher tells all exits at once; the channel of rank 1 was closed first */
    all_greet();
    close(stage.peers[1]);
    turn();
    usleep(2000);
    close(stage.peers[0]);
    turn();
    close(stage.peers[2]);
    for (int rank = 0; rank < WORLD; rank++) {
        stage.peers[rank] = -1;
        stage.alive[rank] = false;
        group_exited(&stage.group, rank, SIGSEGV);
    }
    finish(CADRE_ETRAIN, "killed", 1, "signal 11");

    begin(-1); /* a reason of its own goes before a death, and before what others were told */
    all_greet();
    say(1, "{\"t\":\"done\",\"a\":4,\"status\":-4,\"second\":1,\"message\":\"failed on rank 2\"}");
    turn();
    assert_int_equal(stage.signals[SIGKILL], 0);
    say_done(2, CADRE_ENOSPC, "the disk is full");
    finish(CADRE_ETRAIN, "failed", 2, "rank 2: the disk is full");

    begin(-1); /* only second-hand words: the first of them */
    all_greet();
    for (int rank = 0; rank < WORLD; rank++) {
        say_done(rank, CADRE_ETIMEDOUT, "the barrier took too long");
        leave(rank, 1 << 8);
    }
    finish(CADRE_ETRAIN, "failed", 0, "rank 0: the barrier took too long");

    begin(-1); /* gone before it said hello */
    leave(1, 127 << 8);
    finish(CADRE_ETRAIN, "failed", 1, "exited with code 127 before it was done");
    assert_int_equal(stage.outcome.exit_code, 127);

    begin(1); /* cannot be started: those that were are ended */
    finish(CADRE_ESYSTEM, "failed", -1, "no such luck");
    assert_int_equal(stage.signals[SIGKILL], 1);
    begin(0);
    finish(CADRE_ESYSTEM, "failed", -1, "no such luck");

    begin(-1); /* the exit of one that is told twice */
    all_greet();
    leave(1, SIGKILL);
    group_exited(&stage.group, 1, 0);
    finish(CADRE_ETRAIN, "killed", 1, "signal 9");
}

/* ---- leaving ---------------------------------------------------------------------------------------------------------------------------------- */

static void leaving(void **state)
{
    (void)state;
    begin(-1); /* also those that call in only afterwards are told */
    say_kind(0, "hello");
    assert_hears(0, "\"start\"");
    group_leave(&stage.group, 10);
    group_leave(&stage.group, 0); /* once is enough */
    assert_hears(0, "\"stop\"");
    for (int rank = 1; rank < WORLD; rank++) {
        say_kind(rank, "hello");
        assert_hears(rank, "\"start\"");
        assert_hears(rank, "\"stop\"");
    }
    for (int rank = 0; rank < WORLD; rank++) {
        say_done(rank, CADRE_STOP, "");
        leave(rank, 0);
    }
    finish(CADRE_STOP, "stopped", -1, "");
    assert_int_equal(stage.signals[SIGTERM] + stage.signals[SIGUSR1] + stage.signals[SIGKILL], 0);

    begin(-1); /* ends by the SIGTERM */
    all_greet();
    group_leave(&stage.group, 0.01);
    while (!stage.signals[SIGTERM])
        uv_run(&stage.loop, UV_RUN_ONCE);
    for (int rank = 0; rank < WORLD; rank++)
        leave(rank, SIGTERM);
    finish(CADRE_STOP, "stopped", -1, "did not leave in time");

    begin(-1); /* killed while it was asked to leave */
    all_greet();
    group_leave(&stage.group, 10);
    group_kill(&stage.group, CADRE_STOP, "stopped", -1, "ended by a second interrupt");
    finish(CADRE_STOP, "stopped", -1, "second interrupt");

    begin(-1); /* killed when all is said and done: it has finished */
    all_greet();
    for (int rank = 0; rank < WORLD; rank++)
        say_done(rank, 0, "");
    turn();
    group_kill(&stage.group, CADRE_STOP, "stopped", -1, "ended by a second interrupt");
    finish(CADRE_OK, "finished", -1, "");

    begin(-1); /* words after the end are nobody's business */
    all_greet();
    group_kill(&stage.group, CADRE_ETRAIN, "hung", 1, "made no progress");
    say_kind(0, "report");
    say_done(1, CADRE_EIO, "too late");
    finish(CADRE_ETRAIN, "hung", 1, "made no progress");
}

static void hanging(void **state)
{
    (void)state;
    begin(-1);
    stage.trainer.failure.hang_timeout_s = 0.5;
    all_greet();
    double quiet = base_now() + 0.8;
    while (base_now() < quiet) /* one that has not begun to step cannot hang: setting up may take its time */
        uv_run(&stage.loop, UV_RUN_ONCE);
    assert_int_equal(stage.ended, 0);
    for (int i = 0; !stage.group.ending; i++) {
        for (int rank = 0; rank < WORLD; rank++)
            if (rank != 1 || i == 0)
                say_kind(rank, "beat");
        turn();
        usleep(10000);
    }
    finish(CADRE_ETRAIN, "hung", 1, "rank 1 made no progress");

    begin(-1);
    stage.trainer.failure.hang_timeout_s = -1;
    all_greet();
    for (int rank = 0; rank < WORLD; rank++)
        say_kind(rank, "beat");
    quiet = base_now() + 0.4;
    while (base_now() < quiet)
        uv_run(&stage.loop, UV_RUN_ONCE);
    for (int rank = 0; rank < WORLD; rank++) {
        say_done(rank, 0, "");
        leave(rank, 0);
    }
    finish(CADRE_OK, "finished", -1, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orderly), cmocka_unit_test(old_attempts), cmocka_unit_test(gathers), cmocka_unit_test(nonsense),
        cmocka_unit_test(blame),   cmocka_unit_test(leaving),      cmocka_unit_test(hanging),
    };
    return cmocka_run_group_tests_name("trainer: group", tests, NULL, NULL);
}
