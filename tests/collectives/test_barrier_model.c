/*
 * The barrier of collectives/shm/wait.c as a model: every order in which the steps of a few ranks can come is tried,
 * each step being one access to shared memory or one system call. It shows that nobody leaves before all have arrived,
 * that no wake-up is lost (sleep has no time limit here), and that after a death anywhere those who sleep on either
 * find the barrier complete when they look, or the dead rank to blame. Two broken barriers show that the model would
 * see it.
 *
 * The steps are those of the comment in wait.c, memory is sequentially consistent, as the atomics there are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS_MAX = 4, EPOCHS = 2, STATES_MAX = 1 << 20 };

enum step {
    ADD,         /* n = ++count */
    STORE,       /* the last one: generation = e */
    READ,        /* sleepers > 0? */
    WAKE,        /* all that sleep */
    SET_ARRIVED, /* arrived[rank] = e */
    CHECK,       /* generation = e - 1? */
    INCREASE,    /* ++sleepers */
    CHECK_AGAIN,
    SLEEP,    /* the kernel: sleep, if generation is e - 1 still */
    SLEEPING, /* until it is woken */
    DECREASE, /* --sleepers */
    LEAVE,
    DONE,
    DEAD,
};

enum fault { NONE, READ_BEFORE_STORE, SLEEP_WITHOUT_LOOKING };

struct state {
    uint8_t count, generation, sleepers;
    struct {
        uint8_t step, epoch, added, arrived;
    } rank[RANKS_MAX];
};

struct model {
    int world;
    bool deaths;
    enum fault fault;
    struct state *states; /* those seen, a hash table; count 0xff: an empty place */
    struct state *todo;
    size_t seen, left;
    bool early, lost, blameless; /* what may not be */
};

static void add(struct model *m, const struct state *s)
{
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *s; i++)
        hash = (hash ^ ((const unsigned char *)s)[i]) * 1099511628211u;
    size_t at = hash % STATES_MAX;
    for (; m->states[at].count != 0xff; at = (at + 1) % STATES_MAX)
        if (memcmp(&m->states[at], s, sizeof *s) == 0)
            return;
    assert_true(++m->seen < STATES_MAX / 2);
    m->states[at] = *s;
    m->todo[m->left++] = *s;
}

static void arrive(const struct model *m, struct state *s, int r)
{
    int e = s->rank[r].epoch, step = s->rank[r].step;
    bool early_read = m->fault == READ_BEFORE_STORE;
    switch (step) {
    case ADD:
        s->count++;
        s->rank[r].added++;
        s->rank[r].step = s->count < e * m->world ? SET_ARRIVED : early_read ? READ : STORE;
        break;
    case STORE:
        s->generation = (uint8_t)e;
        s->rank[r].step = early_read ? SET_ARRIVED : READ;
        break;
    case READ: /* the broken one stores in the same step as it wakes, which only helps it */
        s->rank[r].step = s->sleepers ? WAKE : early_read ? STORE : SET_ARRIVED;
        break;
    case WAKE:
        if (early_read)
            s->generation = (uint8_t)e;
        for (int other = 0; other < m->world; other++)
            if (s->rank[other].step == SLEEPING)
                s->rank[other].step = CHECK_AGAIN;
        s->rank[r].step = SET_ARRIVED;
        break;
    default:
        s->rank[r].arrived = (uint8_t)e;
        s->rank[r].step = CHECK;
    }
}

static void await(struct model *m, struct state *s, int r)
{
    int e = s->rank[r].epoch;
    bool waits = s->generation == e - 1;
    switch (s->rank[r].step) {
    case CHECK:
        s->rank[r].step = waits ? INCREASE : LEAVE;
        break;
    case INCREASE:
        s->sleepers++;
        s->rank[r].step = CHECK_AGAIN;
        break;
    case CHECK_AGAIN:
        s->rank[r].step = waits ? SLEEP : DECREASE;
        break;
    case SLEEP:
        s->rank[r].step = waits || m->fault == SLEEP_WITHOUT_LOOKING ? SLEEPING : CHECK_AGAIN;
        break;
    case DECREASE:
        s->sleepers--;
        s->rank[r].step = LEAVE;
        break;
    default:
        for (int other = 0; other < m->world; other++)
            m->early = m->early || s->rank[other].added < e;
        s->rank[r].epoch++;
        s->rank[r].step = e == EPOCHS ? DONE : ADD;
    }
}

/* Nobody can go on: all are done, or a dead rank is to blame by what it left, or those who sleep see when they look. */
static void judge_end(struct model *m, const struct state *s)
{
    int dead = -1;
    for (int r = 0; r < m->world; r++)
        dead = s->rank[r].step == DEAD ? r : dead;
    for (int r = 0; r < m->world; r++) {
        int e = s->rank[r].epoch;
        if (s->rank[r].step != SLEEPING)
            continue;
        if (dead < 0)
            m->lost = true;
        else if (s->generation == e - 1 && s->rank[dead].arrived == e)
            m->blameless = true;
    }
}

static void explore(struct model *m)
{
    struct state first;
    m->states = malloc(STATES_MAX * sizeof *m->states);
    m->todo = malloc(STATES_MAX * sizeof *m->todo);
    assert_true(m->states && m->todo);
    memset(m->states, 0xff, STATES_MAX * sizeof *m->states);
    memset(&first, 0, sizeof first);
    for (int r = 0; r < m->world; r++)
        first.rank[r].epoch = 1;
    add(m, &first);
    while (m->left) {
        struct state now = m->todo[--m->left];
        bool moved = false, has_died = false;
        for (int r = 0; r < m->world; r++)
            has_died = has_died || now.rank[r].step == DEAD;
        for (int r = 0; r < m->world; r++) {
            int step = now.rank[r].step;
            struct state next = now;
            if (m->deaths && !has_died && step != DONE) {
                next.rank[r].step = DEAD;
                add(m, &next);
                next = now;
            }
            if (step == SLEEPING || step == DONE || step == DEAD)
                continue;
            if (step <= SET_ARRIVED)
                arrive(m, &next, r);
            else
                await(m, &next, r);
            add(m, &next);
            moved = true;
        }
        if (!moved)
            judge_end(m, &now);
    }
    free(m->states);
    free(m->todo);
}

static void test_holds(void **state)
{
    (void)state;
    for (int world = 1; world <= RANKS_MAX; world++)
        for (int deaths = 0; deaths < 2; deaths++) {
            struct model m = {.world = world, .deaths = deaths};
            explore(&m);
            assert_false(m.early || m.lost || m.blameless);
            assert_true(world == 1 || m.seen > 100);
        }
}

static void test_sees_what_is_broken(void **state)
{
    (void)state;
    for (int fault = READ_BEFORE_STORE; fault <= SLEEP_WITHOUT_LOOKING; fault++) {
        struct model m = {.world = 2, .fault = (enum fault)fault};
        explore(&m);
        assert_true(m.lost);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_holds), cmocka_unit_test(test_sees_what_is_broken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
