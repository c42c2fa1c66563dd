#include "ranks.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { RANKS_MAX = 16, MESSAGE_MAX = 65536 };

/* Messages of round n lie in half n % 2; a rank that writes round n + 2 has seen all of n + 1, so all have read n. */
struct board {
    atomic_uint posted[RANKS_MAX];
    unsigned char messages[2][RANKS_MAX][MESSAGE_MAX];
};

struct seat {
    struct board *board;
    cadre_oob oob;
    unsigned round;
    rank_fn *fn;
    void *user;
};

static char watched[256];

static void bark(int signal)
{
    (void)signal;
    static const char text[] = "watchdog: hang in ";
    ssize_t ignored = write(2, text, sizeof text - 1);
    ignored += write(2, watched, strlen(watched));
    ignored += write(2, "\n", 1);
    (void)ignored;
    abort();
}

void watchdog(const char *what, unsigned seconds)
{
    snprintf(watched, sizeof watched, "%s", what);
    signal(SIGALRM, bark);
    alarm(seconds);
}

static int board_all_gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct seat *seat = user;
    unsigned round = ++seat->round;
    unsigned char(*messages)[MESSAGE_MAX] = seat->board->messages[round % 2];
    CHECK(nbytes <= MESSAGE_MAX);
    memcpy(messages[seat->oob.rank], mine, nbytes);
    atomic_store(&seat->board->posted[seat->oob.rank], round);
    double deadline = base_now() + timeout_s;
    for (int r = 0; r < seat->oob.world; r++) {
        while (atomic_load(&seat->board->posted[r]) < round) {
            if (base_now() > deadline)
                return base_error(CADRE_ETIMEDOUT, "deadline passed: still waiting for rank %d", r);
            base_sleep_ns(50000);
        }
        memcpy((unsigned char *)all + (size_t)r * nbytes, messages[r], nbytes);
    }
    return CADRE_OK;
}

static void *run_rank(void *user)
{
    struct seat *seat = user;
    seat->fn(&seat->oob, seat->user);
    return NULL;
}

static int run_threads(struct seat *seats, int world)
{
    pthread_t threads[RANKS_MAX];
    for (int r = 0; r < world; r++)
        assert_int_equal(pthread_create(&threads[r], NULL, run_rank, &seats[r]), 0);
    for (int r = 0; r < world; r++)
        pthread_join(threads[r], NULL);
    return 0;
}

static int run_processes(struct seat *seats, int world, int victim)
{
    pid_t pids[RANKS_MAX];
    int failed = 0;
    fflush(NULL);
    for (int r = 0; r < world; r++) {
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r] == 0) {
            alarm(280); /* not inherited */
            base_fault_set_rank(r);
            run_rank(&seats[r]);
            _exit(0);
        }
    }
    for (int r = 0; r < world; r++) {
        int status = 0;
        if (r == victim)
            continue;
        waitpid(pids[r], &status, 0);
        if (status != 0) {
            fprintf(stderr, "rank %d of %d ended with status 0x%x in %s\n", r, world, (unsigned)status, watched);
            failed++;
        }
    }
    if (victim >= 0) {
        kill(pids[victim], SIGKILL);
        waitpid(pids[victim], NULL, 0);
    }
    return failed;
}

void ranks_run(enum ranks_kind kind, int world, int victim, rank_fn *fn, void *user)
{
    assert_int_equal(ranks_try(kind, world, victim, fn, user), 0);
}

int ranks_try(enum ranks_kind kind, int world, int victim, rank_fn *fn, void *user)
{
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(board != MAP_FAILED);
    struct seat seats[RANKS_MAX];
    for (int r = 0; r < world; r++)
        seats[r] = (struct seat){.board = board,
                                 .fn = fn,
                                 .user = user,
                                 .oob = {.size = sizeof(cadre_oob),
                                         .rank = r,
                                         .world = world,
                                         .all_gather = board_all_gather,
                                         .user = &seats[r]}};
    int failed = kind == THREADS ? run_threads(seats, world) : run_processes(seats, world, victim);
    munmap(board, sizeof *board);
    return failed;
}

void ranks_apart(int count, int at_once, int (*fn)(int i, void *user), void *user)
{
    int running = 0, failed = 0, status;
    for (int i = 0; i < count || running > 0;) {
        if (i < count && running < at_once) {
            pid_t pid = fork();
            assert_true(pid >= 0);
            if (pid == 0)
                _exit(fn(i, user) ? 1 : 0);
            i++;
            running++;
            continue;
        }
        assert_true(wait(&status) > 0);
        running--;
        failed += status != 0;
    }
    assert_int_equal(failed, 0);
}
