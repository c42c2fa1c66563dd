/*
 * Both ends of the control channel. A group of two workers whose frames come in any order, of any attempt, twice or torn, with numbers that nobody
 * meant, and the record behind it; or a worker whose controller and environment (CADRE_WORKER_*) say what they like. A group fails or finishes,
 * a worker leaves with an exit code, what is recorded is in order, and nothing outside the run is touched. The first byte says which end it is.
 */
#include "base/buffer.h"
#include "base/frame.h"
#include "base/io.h"
#include "cadre/cadre.h"
#include "folder.h"
#include "input.h"
#include "trainer/group.h"
#include "trainer/run.h"
#include "trainer/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { WORLD = 2, MESSAGES = 64 };

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    double weight = 1;
    cadre_state *state = NULL;
    (void)user;
    int status = cadre_state_new(&state);
    if (status == CADRE_OK)
        status = cadre_state_add_double(state, "weight", &weight);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, state);
    for (int i = 0; status == CADRE_OK && i < 3; i++) {
        cadre_session_progress(session, &(cadre_progress){.epoch = i, .epochs = 3, .samples = 10 * i});
        status = cadre_step(session, state);
        if (status == CADRE_OK)
            status = cadre_report(session, CADRE_METRICS({"loss", cadre_config_double(config, "lr", 1), CADRE_REDUCE_NONE, 0}), i ? state : NULL);
    }
    cadre_state_free(state);
    return status;
}

static cadre_trainer trainer = {.train = train,
                                .scaling = {.num_workers = WORLD, .backend = "self"},
                                .run = {.name = "run", .storage = folder, .progress = CADRE_PROGRESS_AUTO},
                                .failure = {.on_nan = CADRE_NAN_RESTORE},
                                .checkpoint = {.keep = 2, .score_metric = "loss", .score_mode = CADRE_MIN, .every_steps = 2}};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    make_folder();
    must(freopen("/dev/null", "w", stdout) != NULL);
    return 0;
}

/* ---- messages: the form of a real one with other numbers and words in it, or bytes ----------------------------------- */

/* %d: a number, %f: a double, %s: a word, %a: the attempt. */
static const char *const from_worker[] = {
    "{\"t\":\"hello\",\"a\":%a,\"rank\":%d,\"pid\":%d,\"host\":\"%s\"}",
    "{\"t\":\"gather\",\"a\":%a,\"seq\":1,\"rank\":0,\"data\":\"00ff\"}",
    "{\"t\":\"gather\",\"a\":%a,\"seq\":%d,\"rank\":%d,\"data\":\"%s\"}",
    "{\"t\":\"ready\",\"a\":%a,\"backend\":\"%s\"}",
    "{\"t\":\"beat\",\"a\":%a,\"step\":%d}",
    "{\"t\":\"alive\",\"a\":%a}",
    "{\"t\":\"report\",\"a\":%a,\"report\":%n,\"step\":%n,\"metrics\":[[\"loss\",%f]]}",
    "{\"t\":\"report\",\"a\":%a,\"report\":%n,\"step\":%d,\"metrics\":[[\"%s\",%f],[\"loss\",%f]],\"saving\":1}",
    "{\"t\":\"report\",\"a\":%a,\"report\":%d,\"step\":%d,\"metrics\":[[\"loss\",%f]],\"checkpoint\":{\"path\":\"checkpoint-00000%n\",\"hash\":\"00112233445566778899aabbccddeeff\",\"nbytes\":%d}}",
    "{\"t\":\"report\",\"a\":%a,\"report\":%n,\"step\":%n,\"metrics\":[[\"loss\",%f]],\"checkpoint\":{\"path\":\"checkpoint-00000%n\",\"hash\":\"00112233445566778899aabbccddeeff\",\"nbytes\":%d}}",
    "{\"t\":\"checkpoint\",\"a\":%a,\"behind\":1,\"report\":%d,\"step\":%d,\"stall_us\":%d,\"write_us\":%d,\"checkpoint\":{\"path\":\"checkpoint-%s\",\"hash\":\"00112233445566778899aabbccddeeff\",\"nbytes\":%d}}",
    "{\"t\":\"full\",\"a\":%a}",
    "{\"t\":\"progress\",\"a\":%a,\"epoch\":%d,\"epochs\":%d,\"step\":%d,\"steps\":%d,\"samples\":%d,\"unit\":\"%s\",\"metrics\":[[\"loss\",%f]]}",
    "{\"t\":\"done\",\"a\":%a,\"status\":%d,\"message\":\"%s\",\"second\":%d}",
    "{\"t\":\"done\",\"a\":%a,\"status\":0,\"message\":\"\"}",
    "{\"t\":\"%s\",\"a\":%d}",
};
static const char *const from_controller[] = {
    "{\"t\":\"start\",\"a\":%a,\"world\":1,\"rows\":1,\"threads\":1,\"next\":1,\"directory\":\"%D\",\"config\":\"{\\\"lr\\\":%f}\"}",
    "{\"t\":\"start\",\"a\":%a,\"world\":1,\"rows\":1,\"behind\":%d,\"report\":%d,\"step\":%d,\"every\":%d,\"next\":%d,\"directory\":\"%D\",\"config\":\"{}\",\"sync\":%d,\"leave_ms\":%d,\"hang_ms\":%d}",
    "{\"t\":\"start\",\"a\":%a,\"world\":%d,\"rows\":%d,\"threads\":%d,\"restore\":\"%D/%s\",\"directory\":\"%D\",\"config\":\"%s\",\"gpus\":[%d,%f,\"%s\"]}",
    "{\"t\":\"ack\",\"a\":%a,\"status\":0}",
    "{\"t\":\"ack\",\"a\":%a,\"status\":%d,\"message\":\"%s\",\"stop\":%d}",
    "{\"t\":\"freed\",\"a\":%a,\"freed\":%d}",
    "{\"t\":\"gathered\",\"a\":%a,\"seq\":%d,\"data\":[\"%s\",\"00\"]}",
    "{\"t\":\"stop\",\"a\":%a}",
};
static const char *const words[] = {"", "loss", "report", "start", "../precious", "000001", "\\u0000", "\\n\\u001b[2J", "\\\"", "nan", "trial-00000/checkpoint-000001", "samples"};

static char *put(char *at, const char *end, const char *text)
{
    size_t length = strlen(text), room = (size_t)(end - at) - 1;
    length = length < room ? length : room;
    memcpy(at, text, length);
    return at + length;
}

/* The nth form with its gaps filled in. `next`: the report that would be right. */
static size_t fill(fuzz_input *in, const char *form, int attempt, int64_t next, char *text, size_t size)
{
    char *at = text, *end = text + size, field[64];
    for (; *form && at < end - 1; form++) {
        if (*form != '%') {
            *at++ = *form;
            continue;
        }
        switch (*++form) {
        case 'a':
            snprintf(field, sizeof field, "%d", attempt - (fuzz_byte(in) % 16 == 1));
            break;
        case 'n':
            snprintf(field, sizeof field, "%lld", (long long)next);
            break;
        case 'd':
            snprintf(field, sizeof field, "%lld", (long long)fuzz_int(in));
            break;
        case 'f': {
            double value = fuzz_double(in);
            snprintf(field, sizeof field, value - value == 0 ? "%.17g" : "\"%f\"", value);
            break;
        }
        case 'D':
            at = put(at, end, folder);
            continue;
        default:
            snprintf(field, sizeof field, "%s", words[fuzz_one_of(in, (int)(sizeof words / sizeof *words))]);
        }
        at = put(at, end, field);
    }
    *at = '\0';
    return (size_t)(at - text);
}

/* The next bytes that come over the channel. */
static void speak(fuzz_input *in, const char *const *forms, int count, int attempt, int64_t next, base_buffer *out)
{
    char text[1024];
    unsigned kind = fuzz_byte(in);
    if (kind < 224) {
        size_t length = fill(in, forms[kind % (unsigned)count], attempt, next, text, sizeof text);
        (void)base_frame_append(out, text, length);
        return;
    }
    size_t nbytes = fuzz_byte(in);
    const uint8_t *bytes = fuzz_bytes(in, &nbytes);
    if (kind % 2)
        (void)base_frame_append(out, bytes, nbytes);
    else
        (void)base_buffer_append(out, bytes, nbytes);
}

/* ---- a group --------------------------------------------------------------------------------------------------------- */

static trainer_run run;
static int runs; /* inputs that this record has served */
static int theirs[WORLD];
static bool ended;

static int start(trainer_launcher *launcher, trainer_group *group)
{
    (void)launcher;
    for (int rank = 0; rank < group->world; rank++) {
        int pair[2];
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        theirs[rank] = pair[1];
        group->workers[rank].started = true;
        must(group_connect(group, rank, pair[0]) == CADRE_OK);
    }
    return CADRE_OK;
}

static void no_signal(trainer_launcher *launcher, trainer_group *group, int number)
{
    (void)launcher;
    (void)group;
    (void)number;
}

static void release(trainer_launcher *launcher, trainer_group *group)
{
    (void)launcher;
    (void)group;
}

static trainer_launcher launcher = {.name = "fuzz", .start = start, .signal = no_signal, .release = release};

static int on_message(trainer_group *group, const json_t *message, json_t **reply)
{
    (void)group;
    return run_take(&run, message, reply);
}

static json_t *on_hello(trainer_group *group, int rank)
{
    (void)group;
    (void)rank;
    return run_start_message(&run, 1);
}

static void on_end(trainer_group *group, const group_outcome *outcome)
{
    (void)group;
    must(outcome->cause != NULL || outcome->status == CADRE_OK);
    ended = true;
}

static void forget_run(void)
{
    if (run.store)
        run_close(&run);
    runs = 0;
}

/* One record serves many inputs, each an attempt: every one begins at report 0. */
static void begin_run(void)
{
    char directory[96];
    snprintf(directory, sizeof directory, "%s/run", folder);
    if (runs == 200)
        forget_run();
    if (runs++ == 0) {
        must(base_remove_tree(directory) == CADRE_OK);
        must(run_open(&run, &trainer, 0, false) == CADRE_OK);
    }
    run.refused = CADRE_OK;
    must(run_attempt_begin(&run, WORLD, "fuzz") == CADRE_OK);
}

static void discard(int fd)
{
    char bytes[4096];
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
}

static void act(fuzz_input *in, trainer_group *group)
{
    unsigned what = fuzz_byte(in);
    int rank = what % WORLD;
    base_buffer out = {0};
    if (what >= 16) {
        speak(in, from_worker, (int)(sizeof from_worker / sizeof *from_worker), group->attempt, run.report + 1, &out);
        if (theirs[rank] >= 0 && out.length) {
            discard(theirs[rank]);
            if (send(theirs[rank], out.data, out.length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                discard(theirs[rank]);
        }
        base_buffer_free(&out);
    } else if (what < 4 && theirs[rank] >= 0) {
        close(theirs[rank]);
        theirs[rank] = -1;
    } else if (what < 8)
        group_exited(group, rank, (int)fuzz_byte(in) << 8);
    else if (what < 10)
        group_exited(group, rank, (int)fuzz_byte(in) % 32);
    else if (what < 13)
        group_leave(group, 1);
    else
        group_kill(group, CADRE_ETRAIN, "killed", rank, "for a test");
}

static void run_group(fuzz_input *in)
{
    uv_loop_t loop;
    begin_run();
    must(uv_loop_init(&loop) == 0);
    ended = false;
    trainer_group group = {.trainer = &trainer, .number = 1, .attempt = run.attempt, .world = WORLD, .directory = strdup(folder),
                           .on_message = on_message, .on_hello = on_hello, .on_end = on_end};
    must(group.directory && group_start(&group, &loop, &launcher) == CADRE_OK);
    for (int i = 0; i < MESSAGES && in->left && !group.ended; i++) {
        act(in, &group);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    for (int rank = 0; rank < WORLD; rank++) {
        group_exited(&group, rank, 0);
        if (theirs[rank] >= 0)
            close(theirs[rank]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    must(ended && uv_loop_close(&loop) == 0);
    const group_outcome *outcome = &group.outcome;
    run_ending ending = {outcome->cause ? outcome->cause : "failed", outcome->rank, outcome->host, outcome->exit_code, outcome->signal, outcome->detail};
    must(run_attempt_end(&run, &ending) == CADRE_OK);
    group_free(&group);
}

/* ---- a worker -------------------------------------------------------------------------------------------------------- */

static void run_worker(fuzz_input *in)
{
    static const char *const texts[] = {"", "0", "-1", "1", "99999999999", "x", "7 8", "-2147483649"};
    enum { TEXTS = sizeof texts / sizeof *texts };
    int pair[2];
    char fd[16];
    base_buffer out = {0};
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    unsigned how = fuzz_byte(in);
    int attempt = 0;
    snprintf(fd, sizeof fd, "%d", pair[1]);
    bool reached = how % 8 != 1;
    setenv(WORKER_ENV_TRAINER, how % 16 == 2 ? "another" : "run", 1);
    setenv(WORKER_ENV_FD, reached ? fd : texts[how / 8 % 3 == 0 ? 0 : 2], 1); /* another number would be another file's */
    if (how % 8 == 2)
        setenv(WORKER_ENV_RANK, texts[fuzz_one_of(in, TEXTS)], 1);
    if (how % 8 == 3)
        setenv(WORKER_ENV_ATTEMPT, texts[fuzz_one_of(in, TEXTS)], 1);
    if (how % 8 == 4)
        setenv("CADRE_STALL_S", texts[fuzz_one_of(in, TEXTS)], 1);
    if (!reached)
        setenv(WORKER_ENV_SOCKET, words[fuzz_one_of(in, (int)(sizeof words / sizeof *words))], 1);
    for (int i = 0; i < MESSAGES && in->left; i++)
        speak(in, from_controller, (int)(sizeof from_controller / sizeof *from_controller), attempt, 1, &out);
    if (out.length && send(pair[0], out.data, out.length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        reached = false;
    shutdown(pair[0], SHUT_WR); /* the controller has said all */
    if (worker_is_executed("run") && (reached || how % 8 == 1)) {
        int code = worker_run_executed(&trainer);
        must(code == 0 || code == 1);
        if (how % 8 != 1)
            pair[1] = -1; /* the worker has closed it */
    }
    if (pair[1] >= 0)
        close(pair[1]);
    close(pair[0]);
    base_buffer_free(&out);
    static const char *const names[] = {WORKER_ENV_TRAINER, WORKER_ENV_CALL, WORKER_ENV_FD, WORKER_ENV_SOCKET, WORKER_ENV_RANK, WORKER_ENV_ATTEMPT, "CADRE_STALL_S"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    fuzz_input in = {bytes, nbytes};
    if (fuzz_byte(&in) % 4 == 3)
        run_worker(&in);
    else
        run_group(&in);
    must(base_exists(precious));
    return 0;
}
