/*
 * Sweeps whose controller is ended by kill -9 at random moments and which are resumed until they are done.
 *
 *     survive [--kills N] [--trials N] [--seed S] [--only KIND] --cadre PATH [DIRECTORY]
 *
 * Kinds of sweep (below) come in turn until N controllers (200) were killed; each is first run undisturbed. Checked after every kill: the store is
 * whole, trials that had ended stand unchanged, no number is missing or doubled, and all processes of the dead controller go. At the end of a sweep:
 * all trials have ended, as many as wanted, where it does not depend on timing the same ones as in the undisturbed sweep, and neither the
 * experiment nor /dev/shm nor TMPDIR has anything left over. A sweep that went wrong is left in DIRECTORY (/tmp).
 */
#include "survive.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const survive_kind survive_kinds[] = {
    {"random, 1 slot", false, "random", 1, 1, 0, true},
    {"random, 2 slots, cadre tune", true, "random", 2, 1, 0, true},
    {"tpe, 1 slot", false, "tpe", 1, 1, 0, true},
    {"tpe, asha, 2 slots", false, "tpe", 2, 1, 1, false},
    {"random, 2 slots", false, "random", 2, 1, 0, true},
    {"random, promotion, 2 slots", false, "random", 2, 1, 2, false},
    {"tpe, 1 slot, cadre tune", true, "tpe", 1, 1, 0, true},
    {"random, 4 slots", false, "random", 4, 1, 0, true},
    {"bohb, promotion, 2 slots, cadre tune", true, "bohb", 2, 1, 2, false},
    {"random, 2 slots of 2 workers", false, "random", 2, 2, 0, true},
};
const int survive_kind_count = sizeof survive_kinds / sizeof *survive_kinds;

static struct {
    const char *cadre;
    char self[1000], folder[1000], temporary[1100];
    int kills, trials, done, segments; /* in /dev/shm before, of others */
    base_rng rng;
    survive_view calm[sizeof survive_kinds / sizeof *survive_kinds];
    double calm_s[sizeof survive_kinds / sizeof *survive_kinds];
} all;

static bool complain(const char *what, const char *where)
{
    fprintf(stderr, "survive: %s: %s\n", where, what);
    return false;
}

/* ---- processes ---- */

/* Does the environment that a process was started with have this mark? Forked ones have their parent's. */
static bool has_mark(const char *pid, const char *mark)
{
    char path[300], text[65536];
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text) : -1; /* of a zombie it is empty */
    if (fd >= 0)
        close(fd);
    return got > 0 && memmem(text, (size_t)got, mark, strlen(mark)) != NULL;
}

static int living(const char *mark)
{
    int count = 0;
    DIR *list = opendir("/proc");
    for (struct dirent *entry; list && (entry = readdir(list));)
        count += *entry->d_name >= '1' && *entry->d_name <= '9' && has_mark(entry->d_name, mark);
    if (list)
        closedir(list);
    return count;
}

static bool all_gone(const char *mark)
{
    double deadline = base_now() + 20;
    while (living(mark) > 0) {
        if (base_now() > deadline)
            return complain("a killed controller has left processes behind", mark);
        usleep(2000);
    }
    return true;
}

static int entries(const char *directory, const char *prefix, char found[256])
{
    int count = 0;
    DIR *list = opendir(directory);
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (*entry->d_name != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            snprintf(found, 256, "%s", entry->d_name);
            count++;
        }
    if (list)
        closedir(list);
    return count;
}

/* Files and memory of dead groups. Memory that another program is just setting up has a name only for a moment. */
static bool nothing_left(void)
{
    char name[256] = "";
    double deadline = base_now() + 20;
    if (entries(all.temporary, "", name) > 0)
        return complain(name, all.temporary);
    while (entries("/dev/shm", "cadre-comm-", name) > all.segments) {
        if (base_now() > deadline)
            return complain(name, "/dev/shm");
        usleep(10000);
    }
    return true;
}

/* ---- one controller ---- */

static void start_command(const survive_kind *kind, const char *name, bool resume)
{
    char trials[16], slots[16];
    snprintf(trials, sizeof trials, "%d", all.trials);
    snprintf(slots, sizeof slots, "%d", kind->slots);
    const char *scheduler = kind->asha ? "{name: asha, max_t: 9, reduction_factor: 3, promotion: true}" : "fifo";
    if (resume)
        execl(all.cadre, all.cadre, "resume", name, "--storage", all.folder, "--quiet", (char *)NULL);
    else
        execl(all.cadre, all.cadre, "tune", "--name", name, "--storage", all.folder, "--quiet", "-n", trials, "-j", slots, "--seed", "4", "--metric", "loss",
              "--min", "--search", kind->search, "--scheduler", scheduler, "--", all.self, "--trial", kind->asha == 2 ? "save" : "run", "x~uniform(-2, 2)",
              "kind~choice(a, b)", (char *)NULL);
}

static pid_t start(int index, const char *name, bool resume, char *mark)
{
    const survive_kind *kind = &survive_kinds[index];
    char number[16], trials[16];
    snprintf(number, sizeof number, "%d", index);
    snprintf(trials, sizeof trials, "%d", all.trials);
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    putenv(mark);
    setenv("TMPDIR", all.temporary, 1);
    if (!freopen("/dev/null", "w", stdout))
        _exit(127);
    if (kind->command)
        start_command(kind, name, resume);
    else
        execl(all.self, all.self, "--controller", number, all.folder, name, trials, resume ? "resume" : "new", (char *)NULL);
    _exit(127);
}

static void place_of(const char *name, char directory[1200]) { snprintf(directory, 1200, "%s/%s", all.folder, name); }

/* A sweep is resumed once it has a trial; before, it is begun. */
static bool is_begun(const char *name)
{
    char directory[1200];
    survive_view view;
    place_of(name, directory);
    bool begun = survive_read(directory, &view) && view.count > 0;
    survive_forget(&view);
    return begun;
}

/* ---- whole sweeps ---- */

static bool check_end(int index, const char *name)
{
    char directory[1200];
    survive_view view;
    place_of(name, directory);
    bool ok = survive_read(directory, &view);
    ok = ok && (view.count == all.trials || complain("another number of trials than were wanted", name));
    for (int i = 0; ok && i < view.count; i++)
        ok = view.ended[i] || complain("a trial has not ended", name);
    if (ok && !all.calm[index].count) {
        all.calm[index] = view; /* this is the undisturbed one */
        view = (survive_view){0};
    }
    ok = ok && (!survive_kinds[index].the_same || survive_same(&all.calm[index], view.count ? &view : &all.calm[index]));
    survive_forget(&view);
    return ok && survive_files(directory, all.trials) && nothing_left() && base_remove_tree(directory) == 0;
}

static bool run_calm(int index)
{
    char name[32], mark[64];
    int wait_status;
    snprintf(name, sizeof name, "calm-%d", index);
    snprintf(mark, sizeof mark, "CADRE_SURVIVE=%d-%s-", (int)getpid(), name);
    double begun = base_now();
    pid_t pid = start(index, name, false, mark);
    if (pid < 0 || waitpid(pid, &wait_status, 0) != pid || wait_status != 0)
        return complain("the undisturbed sweep failed", survive_kinds[index].name);
    all.calm_s[index] = base_now() - begun;
    return all_gone(mark) && check_end(index, name);
}

/* One life of the controller: it ends or is killed. */
static bool live(int index, const char *name, char *mark, bool spare, bool *ended)
{
    int wait_status;
    double life_s = all.calm_s[index] * 0.3 * base_rng_uniform(&all.rng);
    pid_t pid = start(index, name, is_begun(name), mark);
    if (pid < 0)
        return complain("fork failed", name);
    if (!spare) {
        usleep((useconds_t)(life_s * 1e6));
        kill(pid, SIGKILL);
    }
    if (waitpid(pid, &wait_status, 0) != pid)
        return complain("waitpid failed", name);
    *ended = !WIFSIGNALED(wait_status);
    all.done += !*ended;
    return !*ended || wait_status == 0 || complain("a resumed controller failed", survive_kinds[index].name);
}

static bool look(const char *name, survive_view *last)
{
    char directory[1200];
    survive_view view;
    place_of(name, directory);
    if (!survive_read(directory, &view) || !survive_kept(last, &view))
        return false;
    survive_forget(last);
    *last = view;
    return true;
}

static bool run_killed(int index, int round)
{
    char name[32], mark[64];
    survive_view last = {0};
    bool ok = true, ended = false;
    int before = all.done, most = all.kills / survive_kind_count > 1 ? all.kills / survive_kind_count : 1;
    snprintf(name, sizeof name, "killed-%d-%d", index, round);
    snprintf(mark, sizeof mark, "CADRE_SURVIVE=%d-%s-", (int)getpid(), name);
    for (int life = 0; ok && !ended; life++) {
        ok = live(index, name, mark, all.done >= all.kills || all.done - before >= most || life >= 60, &ended);
        if (ended || base_rng_below(&all.rng, 2)) /* else resumed at once, perhaps before its workers are gone */
            ok = ok && all_gone(mark) && look(name, &last);
    }
    survive_forget(&last);
    ok = ok && check_end(index, name);
    if (ok)
        printf("%-36s %3d kills, %d in all\n", survive_kinds[index].name, all.done - before, all.done);
    fflush(stdout);
    return ok;
}

static bool run_all(int only)
{
    bool ok = true;
    for (int round = 0; ok && all.done < all.kills; round++)
        for (int i = 0; ok && i < survive_kind_count && all.done < all.kills; i++) {
            if ((only >= 0 && i != only) || (survive_kinds[i].command && !all.cadre))
                continue;
            if (!all.calm[i].count)
                ok = run_calm(i);
            ok = ok && run_killed(i, round);
        }
    return ok;
}

static bool make_folders(const char *directory)
{
    snprintf(all.folder, sizeof all.folder, "%s/cadre-survive-XXXXXX", directory);
    if (!mkdtemp(all.folder))
        return complain("cannot make a folder", directory);
    snprintf(all.temporary, sizeof all.temporary, "%s/.tmp", all.folder);
    return base_mkdirs(all.temporary, 0700) == 0;
}

int main(int argc, char **argv)
{
    const char *directory = "/tmp";
    int only = -1;
    uint64_t seed = (uint64_t)time(NULL);
    if (argc > 1 && strcmp(argv[1], "--controller") == 0)
        return survive_controller(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--trial") == 0)
        return survive_trial(argc, argv);
    all.kills = all.trials = 200;
    bool known = true;
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--kills") == 0)
            all.kills = atoi(value);
        else if (strcmp(argv[i], "--trials") == 0)
            all.trials = atoi(value);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            only = atoi(value);
        else if (strcmp(argv[i], "--cadre") == 0)
            all.cadre = value;
        else
            known = complain("no such option", argv[i]);
    }
    if (i < argc)
        directory = argv[i];
    ssize_t length = readlink("/proc/self/exe", all.self, sizeof all.self - 1);
    if (!known || length < 0 || all.trials < 1 || !make_folders(directory))
        return 2;
    printf("seed %llu\n", (unsigned long long)seed);
    base_rng_init(&all.rng, seed, 1);
    all.segments = entries("/dev/shm", "cadre-comm-", (char[256]){0});
    bool ok = run_all(only);
    for (int k = 0; k < survive_kind_count; k++)
        survive_forget(&all.calm[k]);
    if (!ok) {
        fprintf(stderr, "survive: what is left of it is in %s\n", all.folder);
        return 1;
    }
    printf("%d controllers killed, nothing lost, nothing left\n", all.done);
    return base_remove_tree(all.folder) == 0 ? 0 : 1;
}
