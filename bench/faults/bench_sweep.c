/*
 * A sweep of short trainings in which the controller or a worker is killed again and again.
 *
 *     bench_sweep [--trials N] [--slots N] [--every SECONDS] [--seed S] [DIRECTORY]
 *
 * N trials (1,000) on 2 slots, random search; each trains a small network in a forked worker, and reports and saves
 * after each of its epochs. The sweep is made twice: undisturbed, and with a SIGKILL every so many seconds on average
 * (5; the times between are exponential), for the controller or for a worker that trains, with equal chance. A
 * controller that was killed is resumed at once. When the sweep has ended by itself both must have the same trials:
 * states, values, params and the bits of every report, each there once; and no file may be left over. Printed are the
 * kills, the attempts and the times. Stores go into a new folder in DIRECTORY (the current one), which is removed
 * unless something was wrong.
 */
#include "bench/bench.h"
#include "cadre/tuner.h"
#include "tests/tuner/survive.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EPOCHS = 16, SAMPLES = 1024, INPUTS = 8, HIDDEN = 16, MOST_SLOTS = 16 };

static int trials = 1000, slots = 2;
static double every_s = 5;
static char folder[BENCH_FOLDER];
static atomic_int *training; /* shared: the workers that train, by slot; 0: free */

static bool complain(const char *what, const char *why)
{
    fprintf(stderr, "bench_sweep: %s: %s\n", what, why);
    return false;
}

/* ---- a trial: a network with one hidden layer learns a function of eight numbers by stochastic gradient descent ----
 */

typedef struct network {
    double inner[HIDDEN][INPUTS + 1], outer[HIDDEN + 1];
} network;

static double next(uint64_t *state) /* in [-1, 1): Knuth's MMIX generator, its upper bits */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*state >> 11) / 4503599627370496.0 - 1;
}

/* One pass over the samples; answers the mean of the squared errors. */
static double train_epoch(network *net, double rate, uint64_t *order)
{
    double sum = 0;
    for (int i = 0; i < SAMPLES; i++) {
        double x[INPUTS], hidden[HIDDEN], out = net->outer[HIDDEN];
        for (int k = 0; k < INPUTS; k++)
            x[k] = next(order);
        double wanted = sin(3 * x[0]) * x[1] + x[2] * x[3];
        for (int h = 0; h < HIDDEN; h++) {
            double in = net->inner[h][INPUTS];
            for (int k = 0; k < INPUTS; k++)
                in += net->inner[h][k] * x[k];
            hidden[h] = tanh(in);
            out += net->outer[h] * hidden[h];
        }
        double slope = 2 * (out - wanted) * rate;
        sum += (out - wanted) * (out - wanted);
        for (int h = 0; h < HIDDEN; h++) {
            double back = slope * net->outer[h] * (1 - hidden[h] * hidden[h]);
            net->outer[h] -= slope * hidden[h];
            for (int k = 0; k < INPUTS; k++)
                net->inner[h][k] -= back * x[k];
            net->inner[h][INPUTS] -= back;
        }
        net->outer[HIDDEN] -= slope;
    }
    return sum / SAMPLES;
}

static void say_training(int from, int to)
{
    for (int i = 0; i < MOST_SLOTS; i++) {
        int expected = from;
        if (atomic_compare_exchange_strong(&training[i], &expected, to))
            return;
    }
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    (void)user;
    network net;
    uint64_t draws = (uint64_t)cadre_config_int(config, "init", 0);
    int64_t epoch = 0, order = 7;
    cadre_state *state = NULL;
    for (size_t i = 0; i < sizeof net / sizeof(double); i++)
        ((double *)&net)[i] = 0.3 * next(&draws);
    int status = cadre_state_new(&state);
    if (status == CADRE_OK)
        status = cadre_state_add_tensor(state, "net", CADRE_STATE_F64, 1,
                                        (int64_t[]){(int64_t)(sizeof net / sizeof(double))}, &net);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "epoch", &epoch);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "order", &order);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, state);
    say_training(0, (int)getpid());
    while (status == CADRE_OK && epoch < EPOCHS) {
        uint64_t place = (uint64_t)order;
        double loss = train_epoch(&net, cadre_config_double(config, "lr", 0), &place);
        order = (int64_t)place;
        epoch++;
        status = cadre_report(session, CADRE_METRICS(CADRE_METRIC("loss", loss)), state);
    }
    say_training((int)getpid(), 0);
    cadre_state_free(state);
    return status < 0 ? status : CADRE_OK;
}

static int control(const char *name, bool resume)
{
    static const cadre_param space[] = {CADRE_LOGUNIFORM("lr", 1e-4, 0.1), CADRE_RANDINT("init", 1, 1000), CADRE_END};
    cadre_trainer trainer = {.train = train,
                             .run = {.name = name, .storage = folder},
                             .failure = {.max_failures = -1},
                             .checkpoint = {.keep = 1}};
    cadre_tuner tuner = {.trainer = &trainer,
                         .metric = "loss",
                         .search = CADRE_SEARCH_RANDOM,
                         .mode = CADRE_MIN,
                         .space = space,
                         .num_samples = trials,
                         .cores = slots,
                         .seed = 4,
                         .resume = resume ? CADRE_TUNE_RESUME : CADRE_TUNE_NEW};
    if (!freopen("/dev/null", "w", stdout)) /* a line a trial */
        return 1;
    return cadre_tuner_fit(&tuner, NULL) == CADRE_OK ? 0 : !complain(name, cadre_error_message());
}

static pid_t start(const char *name, bool resume)
{
    for (int i = 0; i < MOST_SLOTS; i++)
        atomic_store(&training[i], 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(control(name, resume));
    return pid;
}

/* ---- the store ---- */

static sqlite3 *open_store(const char *name)
{
    char path[1200];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/%s/cadre.db", folder, name);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        complain(path, "cannot be read");
    return db;
}

static int64_t count(const char *name, const char *query)
{
    sqlite3 *db = open_store(name);
    sqlite3_stmt *statement = NULL;
    int64_t found = -1;
    if (sqlite3_prepare_v2(db, query, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        found = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return found;
}

/* ---- kills ---- */

static pid_t parent_of(pid_t pid)
{
    char path[64], text[512] = "";
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    const char *end = file && fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
    if (end && sscanf(end + 1, " %*c %d", &parent) != 1)
        parent = 0;
    if (file)
        fclose(file);
    return (pid_t)parent;
}

/* A worker that trains, of this controller: the number of one that has died may be another program's by now. 0: there
 * is none. */
static pid_t draw_worker(pid_t controller)
{
    int first = rand() % MOST_SLOTS;
    for (int i = 0; i < MOST_SLOTS; i++) {
        atomic_int *place = &training[(first + i) % MOST_SLOTS];
        pid_t pid = (pid_t)atomic_load(place);
        pid_t above = pid > 0 ? parent_of(pid) : 0;
        atomic_compare_exchange_strong(place, &(int){(int)pid}, 0); /* dead, or soon */
        if (above > 0 && (above == controller || parent_of(above) == controller))
            return pid;
    }
    return 0;
}

typedef struct tally {
    int controllers, workers;
    double seconds;
} tally;

static double draw_pause(void) { return -every_s * log((rand() + 1.0) / (RAND_MAX + 2.0)); }

static bool sweep(const char *name, bool disturbed, tally *tally)
{
    double begun = bench_now(), next_kill = disturbed ? begun + draw_pause() : INFINITY;
    bool ended = false, at_controller = rand() % 2;
    int wait_status = 0;
    *tally = (struct tally){0};
    while (!ended) {
        pid_t controller = start(name, tally->controllers > 0 && count(name, "SELECT count(*) FROM trials") > 0);
        if (controller < 0)
            return complain(name, "fork failed");
        pid_t gone;
        while ((gone = waitpid(controller, &wait_status, WNOHANG)) == 0) {
            usleep(1000);
            if (bench_now() < next_kill)
                continue;
            pid_t victim = at_controller ? controller : draw_worker(controller);
            if (victim <= 0) /* nobody trains just now */
                continue;
            kill(victim, SIGKILL);
            tally->workers += !at_controller;
            next_kill = bench_now() + draw_pause();
            at_controller = rand() % 2;
        }
        ended = gone != controller || !WIFSIGNALED(wait_status);
        tally->controllers += !ended;
    }
    tally->seconds = bench_now() - begun;
    return wait_status == 0 || complain(name, "the sweep has failed");
}

/* ---- what is left ---- */

/* Over the bits of every report, in order. */
static uint64_t hash_reports(const char *name, int64_t *rows)
{
    sqlite3 *db = open_store(name);
    sqlite3_stmt *statement = NULL;
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    *rows = 0;
    if (sqlite3_prepare_v2(db,
                           "SELECT t.number, m.report, m.value FROM cadre_metrics m JOIN trials t USING (trial_id) "
                           "ORDER BY t.number, m.report",
                           -1, &statement, NULL) == SQLITE_OK)
        while (sqlite3_step(statement) == SQLITE_ROW) {
            double row[3] = {sqlite3_column_double(statement, 0), sqlite3_column_double(statement, 1),
                             sqlite3_column_double(statement, 2)};
            for (size_t i = 0; i < sizeof row; i++)
                hash = (hash ^ ((const unsigned char *)row)[i]) * 1099511628211u;
            ++*rows;
        }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return hash;
}

static bool check(const char *calm, const char *killed)
{
    char directory[2][1200];
    survive_view views[2] = {{0}, {0}};
    int64_t rows[2];
    snprintf(directory[0], sizeof directory[0], "%s/%s", folder, calm);
    snprintf(directory[1], sizeof directory[1], "%s/%s", folder, killed);
    bool ok = true;
    for (int i = 0; ok && i < 2; i++)
        ok = survive_read(directory[i], &views[i]) && survive_files(directory[i], trials) &&
             (views[i].count == trials || complain(directory[i], "another number of trials than was wanted"));
    ok = ok && survive_same(&views[0], &views[1]);
    ok = ok && count(killed, "SELECT count(*) FROM trials WHERE state = 'COMPLETE'") == trials;
    ok = ok && (hash_reports(calm, &rows[0]) == hash_reports(killed, &rows[1]) ||
                complain(killed, "a report differs from the undisturbed sweep's"));
    ok = ok && ((rows[0] == (int64_t)trials * EPOCHS && rows[1] == rows[0]) ||
                complain(killed, "reports are lost or doubled"));
    for (int i = 0; i < 2; i++)
        survive_forget(&views[i]);
    return ok;
}

static bool measure(void)
{
    static const char ATTEMPTS[] = "SELECT count(*) FROM cadre_attempts";
    tally calm, killed;
    double load = bench_load();
    bool ok = sweep("calm", false, &calm);
    if (ok)
        printf("%d trials of %d reports, each with a checkpoint, %d slots, load %.1f\n  undisturbed   %8.1f s, %" PRId64
               " attempts\n",
               trials, EPOCHS, slots, load, calm.seconds, count("calm", ATTEMPTS));
    fflush(stdout);
    ok = ok && sweep("killed", true, &killed);
    if (ok)
        printf("  killed        %8.1f s, %" PRId64
               " attempts, %d controllers and %d workers killed, one every %.1f s\n",
               killed.seconds, count("killed", ATTEMPTS), killed.controllers, killed.workers,
               killed.seconds / (killed.controllers + killed.workers));
    ok = ok && check("calm", "killed");
    if (ok)
        printf("  the same %d trials and %d reports, bit for bit; nothing lost, doubled or left over\n", trials,
               trials * EPOCHS);
    return ok;
}

int main(int argc, char **argv)
{
    const char *directory = ".";
    unsigned seed = (unsigned)time(NULL);
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2)
        if (strcmp(argv[i], "--trials") == 0)
            trials = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--slots") == 0)
            slots = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--every") == 0)
            every_s = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else
            trials = 0;
    if (i < argc && argv[i][0] != '-')
        directory = argv[i];
    else if (i < argc)
        trials = 0;
    if (trials < 1 || slots < 1 || slots > MOST_SLOTS || !(every_s > 0)) {
        fprintf(stderr, "usage: bench_sweep [--trials N] [--slots 1..%d] [--every SECONDS] [--seed S] [DIRECTORY]\n",
                MOST_SLOTS);
        return 2;
    }
    training = bench_share(MOST_SLOTS * sizeof *training);
    if (!training || !bench_folder_make(folder, directory, "sweep"))
        return 1;
    srand(seed);
    if (!measure()) {
        fprintf(stderr, "bench_sweep: what is left of it is in %s (seed %u)\n", folder, seed);
        return 1;
    }
    return !bench_folder_remove(folder);
}
