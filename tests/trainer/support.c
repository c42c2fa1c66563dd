#include "support.h"

#include "base/clock.h"
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/close_range.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char scratch[64];

double seconds_now(void) { return base_now(); }

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); }

const char *in_scratch(const char *fmt, ...)
{
    static char turns[8][1024];
    static int turn;
    char *text = turns[turn++ % 8];
    int used = snprintf(text, sizeof turns[0], "%s/", scratch);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + used, sizeof turns[0] - (size_t)used, fmt, args);
    va_end(args);
    return text;
}

int scratch_make(void **state)
{
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what a job leaves behind becomes ours, and is found */
    snprintf(scratch, sizeof scratch, "%s/cadre-trainer-XXXXXX", file_exists("/dev/shm") ? "/dev/shm" : "/tmp");
    if (!mkdtemp(scratch))
        return -1;
    setenv("XDG_RUNTIME_DIR", in_scratch("runtime"), 1); /* where groups have their sockets */
    return mkdir(in_scratch("runtime"), 0700);
}

/* Everything that the jobs started is gone, if it is given a moment to die. */
static bool nobody_left(void)
{
    double deadline = base_now() + 3;
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD)
            return true;
        if (pid == 0 && base_now() > deadline)
            return false;
        if (pid == 0)
            nap();
    }
}

static void end_children(void)
{
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char path[300], text[512] = "";
        pid_t pid = (pid_t)atoi(entry->d_name), parent = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = pid > 1 ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        if (fgets(text, sizeof text, file) && strrchr(text, ')') && sscanf(strrchr(text, ')'), ") %*c %d", &parent) == 1 && parent == getpid()) {
            fprintf(stderr, "left behind: %s", text);
            kill(pid, SIGKILL);
        }
        fclose(file);
    }
    closedir(directory);
}

int scratch_remove(void **state)
{
    (void)state;
    int left = 0;
    for (; !nobody_left() && left < 5; left++)
        end_children();
    DIR *directory = opendir(in_scratch("runtime"));
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] != '.') {
            fprintf(stderr, "left behind: %s\n", entry->d_name);
            left++;
        }
    if (directory)
        closedir(directory);
    base_remove_tree(scratch);
    return left ? -1 : 0;
}

/* ---- jobs ------------------------------------------------------------------------------------------------------------------------------- */

static void become_job(const char *name, const char *words)
{
    char text[2048], own[4][1100], *argv[80], ranks[8];
    int count = 0;
    if (sscanf(words, "attached=%7[0-9]", ranks) == 1) { /* by an mpirun of the user's */
        const char *const mpirun[] = {"mpirun", "--bind-to", "none", "--oversubscribe", "-np", ranks, geteuid() ? "--quiet" : "--allow-run-as-root"};
        for (size_t i = 0; i < sizeof mpirun / sizeof *mpirun; i++)
            argv[count++] = (char *)(uintptr_t)mpirun[i];
        words += strcspn(words, " ");
        setenv("TMPDIR", in_scratch("tmp"), 1); /* where killed ranks leave things */
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* Open MPI's own */
        setenv("TSAN_OPTIONS", "ignore_noninstrumented_modules=1", 1);
        mkdir(in_scratch("tmp"), 0700);
    }
    argv[count++] = (char *)(uintptr_t)TRAINER_JOB;
    snprintf(own[0], sizeof own[0], "name=%s", name);
    snprintf(own[1], sizeof own[1], "storage=%s", in_scratch("runs"));
    snprintf(own[2], sizeof own[2], "out=%s", in_scratch("%s.out", name));
    snprintf(own[3], sizeof own[3], "final=%s", in_scratch("%s.final", name));
    for (int i = 0; i < 4; i++)
        argv[count++] = own[i];
    snprintf(text, sizeof text, "%s", words);
    char *save = NULL;
    for (char *word = strtok_r(text, " ", &save); word && count < 79; word = strtok_r(NULL, " ", &save))
        argv[count++] = word;
    argv[count] = NULL;
    int fd = open(in_scratch("%s.log", name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execvp(argv[0], argv);
    _exit(127);
}

bool can_attach(void) { return TRAINER_MPI; }

job job_start(const char *name, const char *words)
{
    job job = {.pid = 0};
    snprintf(job.name, sizeof job.name, "%s", name);
    unlink(in_scratch("%s.out", name));
    job.pid = fork();
    if (job.pid == 0) {
        setpgid(0, 0);
        become_job(name, words);
    }
    assert_true(job.pid > 0);
    return job;
}

void job_wait(job *job, int seconds)
{
    double deadline = base_now() + seconds;
    for (;;) {
        pid_t pid = waitpid(job->pid, &job->wait_status, WNOHANG);
        if (pid == job->pid)
            return;
        if (base_now() > deadline) {
            kill(job->pid, SIGABRT);
            waitpid(job->pid, NULL, 0);
            fail_msg("the job %s did not end within %d s:\n%s", job->name, seconds, job_output(job->name));
        }
        nap();
    }
}

int job_run(const char *name, const char *words)
{
    job job = job_start(name, words);
    job_wait(&job, 60);
    return WIFSIGNALED(job.wait_status) ? -WTERMSIG(job.wait_status) : WEXITSTATUS(job.wait_status);
}

void job_expect(const char *name, const char *words, const char *status)
{
    int code = job_run(name, words);
    if (strcmp(job_answer(name, "status"), status) != 0 || code != (strcmp(status, "OK") == 0 ? 0 : 1))
        fail_msg("job %s (%s): exit code %d, status %s instead of %s: %s\n%s", name, words, code, job_answer(name, "status"), status,
                 job_answer(name, "message"), job_output(name));
    assert_string_equal(job_answer(name, "fds"), "0");
}

static const char *read_text(const char *path)
{
    static char turns[4][1 << 20];
    static int turn;
    char *text = turns[turn++ % 4];
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, sizeof turns[0] - 1, file) : 0;
    text[length] = '\0';
    if (file)
        fclose(file);
    return text;
}

const char *job_output(const char *name) { return read_text(in_scratch("%s.log", name)); }

const char *job_log(const char *name, int trial, int rank) { return read_text(in_scratch("runs/%s/trial-%05d/rank%d.log", name, trial, rank)); }

const char *job_answer(const char *name, const char *key)
{
    static char turns[8][2048];
    static int turn;
    char *answer = turns[turn++ % 8];
    const char *text = read_text(in_scratch("%s.out", name));
    size_t length = strlen(key);
    *answer = '\0';
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            snprintf(answer, sizeof turns[0], "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
    return answer;
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

void wait_for_lines(const char *path, int lines)
{
    double deadline = base_now() + 30;
    for (;;) {
        int count = 0;
        for (const char *at = read_text(path); *at; at++)
            count += *at == '\n';
        if (count >= lines)
            return;
        if (base_now() > deadline)
            fail_msg("%s has %d lines, %d were waited for", path, count, lines);
        nap();
    }
}

/* ---- the store -------------------------------------------------------------------------------------------------------------------------- */

static sqlite3 *open_store(const char *name)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(in_scratch("runs/%s/cadre.db", name), &db, SQLITE_OPEN_READONLY, NULL);
    if (rc != SQLITE_OK)
        fail_msg("open the store of %s: %s", name, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 5000);
    return db;
}

static sqlite3_stmt *query(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    return statement;
}

int64_t store_int(const char *name, const char *sql)
{
    sqlite3 *db = open_store(name);
    sqlite3_stmt *statement = query(db, sql);
    int64_t value = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

const char *store_text(const char *name, const char *sql)
{
    static char turns[4][2048];
    static int turn;
    char *text = turns[turn++ % 4];
    sqlite3 *db = open_store(name);
    sqlite3_stmt *statement = query(db, sql);
    const char *value = sqlite3_step(statement) == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    snprintf(text, sizeof turns[0], "%s", value ? value : "");
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}

const char *store_checkpoints(const char *name)
{
    return store_text(name, "SELECT group_concat(report || ' ' || path || ' ' || ifnull(score, '-')) FROM (SELECT * FROM cadre_checkpoints ORDER BY path)");
}

char *store_reports(const char *name, int trial)
{
    sqlite3 *db = open_store(name);
    sqlite3_stmt *statement = query(db, "SELECT r.report, r.step, n.name, m.value FROM cadre_reports r JOIN trials t USING (trial_id) LEFT JOIN cadre_metrics m "
                                        "USING (trial_id, report) LEFT JOIN cadre_names n USING (name_id) WHERE t.number = ? ORDER BY r.report, n.name");
    sqlite3_bind_int(statement, 1, trial);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        double value = sqlite3_column_type(statement, 3) == SQLITE_NULL ? NAN : sqlite3_column_double(statement, 3);
        fprintf(out, "%lld %lld %s %a\n", sqlite3_column_int64(statement, 0), sqlite3_column_int64(statement, 1), sqlite3_column_text(statement, 2), value + 0.0);
    }
    fclose(out);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}

void assert_same_final(const char *one, const char *other, int world)
{
    for (int rank = 0; rank < world; rank++) {
        const char *paths[2] = {in_scratch("%s.final-%d", one, rank), in_scratch("%s.final-%d", other, rank)};
        char contents[2][20000];
        size_t sizes[2];
        for (int i = 0; i < 2; i++) {
            FILE *file = fopen(paths[i], "r");
            if (!file)
                fail_msg("%s is not there: the run did not come to its end", paths[i]);
            sizes[i] = fread(contents[i], 1, sizeof contents[i], file);
            fclose(file);
        }
        if (sizes[0] == 0 || sizes[0] != sizes[1] || memcmp(contents[0], contents[1], sizes[0]) != 0)
            fail_msg("rank %d ends with other bits in %s than in %s", rank, other, one);
    }
}

/* result.json, in the form of store_reports. */
static char *file_reports(const char *name, int trial)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    FILE *file = fopen(in_scratch("runs/%s/trial-%05d/result.json", name, trial), "r");
    char line[16384];
    while (file && fgets(line, sizeof line, file)) {
        json_error_t error;
        json_t *row = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (!row)
            fail_msg("result.json of %s: %s: %s", name, error.text, line);
        json_t *metrics = json_object_get(row, "metrics");
        const char *names[80];
        size_t count = 0;
        const char *key;
        json_t *value;
        json_object_foreach(metrics, key, value) names[count++] = key;
        for (size_t i = 0; i < count; i++) /* in order */
            for (size_t k = i + 1; k < count; k++)
                if (strcmp(names[k], names[i]) < 0) {
                    const char *other = names[i];
                    names[i] = names[k];
                    names[k] = other;
                }
        for (size_t i = 0; i < count; i++) {
            value = json_object_get(metrics, names[i]);
            const char *word = json_string_value(value);
            double number = !word ? json_number_value(value) : strcmp(word, "nan") == 0 ? NAN : strcmp(word, "inf") == 0 ? INFINITY : -INFINITY;
            fprintf(out, "%lld %lld %s %a\n", (long long)json_integer_value(json_object_get(row, "report")),
                    (long long)json_integer_value(json_object_get(row, "step")), names[i], number + 0.0);
        }
        json_decref(row);
    }
    if (file)
        fclose(file);
    fclose(out);
    return text;
}

static void check_trial_directory(const char *name, int trial)
{
    char sql[300];
    DIR *directory = opendir(in_scratch("runs/%s/trial-%05d", name, trial));
    if (!directory)
        fail_msg("run %s has no directory for trial %d", name, trial);
    int checkpoints = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (strncmp(entry->d_name, "checkpoint-", 11) == 0) {
            snprintf(sql, sizeof sql, "SELECT count(DISTINCT path) FROM cadre_checkpoints WHERE path = 'trial-%05d/%.100s'", trial, entry->d_name);
            if (store_int(name, sql) != 1)
                fail_msg("run %s: %s is not recorded", name, entry->d_name);
            checkpoints++;
        } else if (strncmp(entry->d_name, "rank", 4) != 0 && strcmp(entry->d_name, "result.json") != 0 && strncmp(entry->d_name, "damaged-", 8) != 0 &&
                   entry->d_name[0] != '.') {
            fail_msg("run %s: %s is left in trial %d", name, entry->d_name, trial);
        }
    }
    closedir(directory);
    snprintf(sql, sizeof sql, "SELECT count(DISTINCT path) FROM cadre_checkpoints WHERE path LIKE 'trial-%05d/%%'", trial); /* a later trial may list them, too */
    assert_int_equal(store_int(name, sql), checkpoints);
}

void assert_run_clean(const char *name)
{
    assert_string_equal(store_text(name, "PRAGMA integrity_check"), "ok");
    static const char *const beside[] = {"cadre.db.lock", "cadre.db-wal", "cadre.db-shm", "cadre.db-journal"};
    for (int i = 0; i < 4; i++)
        if (file_exists(in_scratch("runs/%s/%s", name, beside[i])))
            fail_msg("run %s: %s is left", name, beside[i]);
    int trials = (int)store_int(name, "SELECT count(*) FROM trials");
    for (int trial = 0; trial < trials; trial++) {
        char sql[400];
        char *stored = store_reports(name, trial), *written = file_reports(name, trial);
        assert_string_equal(stored, written);
        free(stored);
        free(written);
        snprintf(sql, sizeof sql, "SELECT count(*) - 1 - max(report) + min(report) FROM cadre_reports JOIN trials USING (trial_id) WHERE number = %d", trial);
        if (store_int(name, sql) > 0)
            fail_msg("run %s: trial %d has gaps in its reports", name, trial);
        check_trial_directory(name, trial);
    }
    assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_attempts WHERE cause IS NULL"), 0);
}

void run_pinned(const char *name, const char *words)
{
    job job = job_start(name, words);
    wait_for_lines(in_scratch("runs/%s/trial-00000/result.json", name), 1);
    for (int i = 0; i < 500 && !file_exists(in_scratch("runs/%s/trial-00000/checkpoint-000001", name)); i++)
        usleep(1000);
    FILE *pin = fopen(in_scratch("runs/%s/trial-00000/checkpoint-000001/pinned", name), "w");
    assert_non_null(pin);
    fclose(pin);
    job_wait(&job, 20);
    assert_int_equal(job.wait_status, 0);
    assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_checkpoints"), 2);
    assert_run_clean(name);
}

/* A word for the job: whoever removes the file strikes, once. */
const char *new_marker(void)
{
    static char word[1100];
    const char *path = in_scratch("marker");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    snprintf(word, sizeof word, "marker=%s", path);
    return word;
}

void assert_like(const char *name, const char *undisturbed, int world)
{
    assert_run_clean(name);
    assert_same_final(name, undisturbed, world);
    char *reports = store_reports(name, 0), *expected = store_reports(undisturbed, 0);
    assert_string_equal(reports, expected);
    free(reports);
    free(expected);
    assert_int_equal(store_int(name, "SELECT count(*) FROM trials"), 1);
    assert_string_equal(store_text(name, "SELECT state FROM trials"), "COMPLETE");
    assert_int_equal(store_int(name, "SELECT count(*) FROM trial_values"), 1);
    assert_int_equal(store_int(name, "SELECT count(*) FROM trial_intermediate_values"), store_int(undisturbed, "SELECT count(*) FROM trial_intermediate_values"));
}

/* Did a killed run come so far that there is something to resume? */
bool has_trial(const char *name)
{
    sqlite3 *db = NULL; /* one who may write: a store that was killed while its tables were made is rolled back by the next one who opens it so */
    if (file_exists(in_scratch("runs/%s/cadre.db", name)) && sqlite3_open_v2(in_scratch("runs/%s/cadre.db", name), &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK)
        sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
    sqlite3_close(db);
    return file_exists(in_scratch("runs/%s/cadre.db", name)) && store_int(name, "SELECT count(*) FROM sqlite_master") > 0 &&
           store_int(name, "SELECT count(*) FROM trials") > 0;
}
