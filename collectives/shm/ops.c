/*
 * The operations. Each is a task that does some work, arrives at a barrier, does some more: step() does what lies
 * between two barriers and says whether another follows. So one description serves the blocking calls (arrive, await,
 * step, ...) and the requests (step as long as the barrier is complete already).
 *
 * Every task begins by showing the others a note of what it is, and its first barrier tells whether all are about to do
 * the same (CADRE_EMISMATCH), and the way to do it:
 *
 *   DIRECT  the buffer lies in shared memory on all ranks: use it where it is, then a second barrier. In an all-reduce
 * each rank reduces its own slice straight from all the others and writes the result to all. STAGED  otherwise, or when
 * it is small: pieces go through the staging area. Each rank copies a piece in; after the barrier each takes what it
 * needs out of everybody's. One barrier a piece, since the next piece goes to another buffer. SLICED  a large staged
 * all-reduce, where it would be a waste that every rank reduces everything: after the barrier each reduces its slice,
 * after the next one all copy the result out (two ranks that hand over lose by it). Three buffers: while piece k is
 * copied in, k - 1 is reduced and k - 2 copied out.
 *
 * A staging buffer is free for piece k when all have passed the barrier after the one in which k - 3 was reduced; as
 * s->slot counts on over operations, that holds between them, too. Likewise a note: when a rank writes note n + 2, all
 * have passed the first barrier of n + 1 and so have read note n.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "collectives/reduce.h"
#include "shm.h"

#include <stdio.h>
#include <string.h>

enum way { DIRECT = 1, STAGED, SLICED };
enum step { STEP_BARRIER, STEP_DONE };
enum phase { PHASE_SHOW, PHASE_AGREE, PHASE_PIECES, PHASE_LEAVE };

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

struct shm_task collectives_shm_task(const collectives_op *op)
{
    return (struct shm_task){.kind = op->kind,
                             .dtype = op->dtype,
                             .op = op->op,
                             .root = op->root,
                             .input = op->input,
                             .output = op->output,
                             .count = op->count,
                             .size = op->kind == COLLECTIVES_BARRIER ? 1 : cadre_dtype_size(op->dtype)};
}

/* Bytes of the buffer that the other ranks want to look into. */
static size_t shown_bytes(const shm *s, const struct shm_task *t)
{
    return t->count * t->size * (t->kind == COLLECTIVES_REDUCE_SCATTER ? (size_t)s->world : 1);
}

static struct shm_region *find_region(shm *s, const char *memory, size_t nbytes, size_t *offset)
{
    for (struct shm_region *region = s->regions; region; region = region->next) {
        const char *base = region->base[s->rank];
        if (memory >= base && memory < base + region->nbytes && nbytes <= region->nbytes - (size_t)(memory - base)) {
            *offset = (size_t)(memory - base);
            return region;
        }
    }
    return NULL;
}

static char *stage(const shm *s, int rank, uint64_t slot)
{
    return s->stages + ((size_t)rank * SHM_STAGES + slot % SHM_STAGES) * s->chunk;
}

/* Elements in piece number `at`. */
static size_t piece_count(const struct shm_task *t, size_t at) { return smaller(t->piece, t->count - at * t->piece); }

/* A rank's part of `count` elements: [*lo, *hi), cut where a cache line begins. */
static void slice_of(const shm *s, int rank, size_t count, size_t size, size_t *lo, size_t *hi)
{
    size_t line = SHM_LINE / size, lines = (count + line - 1) / line, world = (size_t)s->world, r = (size_t)rank;
    *lo = smaller(count, (lines / world * r + smaller(r, lines % world)) * line);
    *hi = smaller(count, *lo + (lines / world + (r < lines % world)) * line);
}

/*
 * Where it is dear: between two ranks a sum is written into the other's buffer, too, where nobody will read it. A core
 * that has only read a line shares it, and the other has to take it back before it can write there again; one that has
 * written it hands it over whole, which is several times faster. With more ranks stream.c does what can be done.
 */
static bool hands_over(const shm *s, const struct shm_task *t)
{
    return s->control->dear && s->world == 2 &&
           (t->kind == COLLECTIVES_ALL_REDUCE || t->kind == COLLECTIVES_REDUCE_SCATTER);
}

static void copy_in(const shm *s, const struct shm_task *t, char *to, const char *from, size_t nbytes)
{
    if (s->control->dear && !hands_over(s, t))
        collectives_stream(to, from, nbytes);
    else
        memcpy(to, from, nbytes);
}

/* Copy piece `at` into the own staging buffer `slot`. */
static void stage_in(shm *s, const struct shm_task *t, size_t at, uint64_t slot)
{
    char *to = stage(s, s->rank, slot);
    size_t nbytes = piece_count(t, at) * t->size, from = at * t->piece * t->size;
    if (t->kind == COLLECTIVES_BROADCAST && t->root != s->rank)
        return;
    if (t->way == SLICED) { /* nobody reads the own slice */
        size_t lo, hi, count = piece_count(t, at);
        slice_of(s, s->rank, count, t->size, &lo, &hi);
        copy_in(s, t, to, t->input + from, lo * t->size);
        copy_in(s, t, to + hi * t->size, t->input + from + hi * t->size, (count - hi) * t->size);
        return;
    }
    if (t->kind != COLLECTIVES_REDUCE_SCATTER) {
        copy_in(s, t, to, t->input + from, nbytes);
        return;
    }
    for (int r = 0; r < s->world; r++)
        if (r != s->rank) /* nor the own block */
            copy_in(s, t, to + (size_t)r * nbytes, t->input + (size_t)r * t->count * t->size + from, nbytes);
}

/* Take what this rank needs of piece `at` out of everybody's buffer `slot`; its own part is where it always was. */
static void stage_out(shm *s, const struct shm_task *t, size_t at, uint64_t slot)
{
    size_t count = piece_count(t, at), nbytes = count * t->size, where = at * t->piece * t->size;
    const void *from[SHM_RANKS_MAX];
    void *to[2] = {t->output + where, NULL};
    switch (t->kind) {
    case COLLECTIVES_ALL_REDUCE:
        for (int r = 0; r < s->world; r++)
            from[r] = r == s->rank ? t->input + where : stage(s, r, slot);
        to[1] = stage(s, !s->rank, slot);
        collectives_reduce(to, 1 + hands_over(s, t), from, s->world, count, t->dtype, t->op);
        break;
    case COLLECTIVES_REDUCE_SCATTER:
        for (int r = 0; r < s->world; r++)
            from[r] = r == s->rank ? t->input + (size_t)r * t->count * t->size + where
                                   : stage(s, r, slot) + (size_t)s->rank * nbytes;
        to[1] = stage(s, !s->rank, slot) + (size_t)s->rank * nbytes;
        collectives_reduce(to, 1 + hands_over(s, t), from, s->world, count, t->dtype, t->op);
        break;
    case COLLECTIVES_ALL_GATHER:
        for (int r = 0; r < s->world; r++) {
            char *place = t->output + (size_t)r * t->count * t->size + where;
            const char *source = r == s->rank ? t->input + where : stage(s, r, slot);
            if (place != source)
                memcpy(place, source, nbytes);
        }
        break;
    case COLLECTIVES_BROADCAST:
        if (t->root != s->rank)
            memcpy(to[0], stage(s, t->root, slot), nbytes);
        break;
    default:
        break;
    }
}

/* Reduce `count` elements into `to` and `shown`, which others have read before, a part after the other. */
static void reduce_and_show(const shm *s, const struct shm_task *t, const char *const *from, char *to, char *shown,
                            size_t count)
{
    size_t part = COLLECTIVES_CLAIM / t->size;
    for (size_t at = 0; at < count; at += part) {
        size_t some = smaller(part, count - at), offset = at * t->size;
        const void *those[SHM_RANKS_MAX];
        for (int r = 0; r < s->world; r++)
            those[r] = from[r] + offset;
        collectives_claim(shown + offset, some * t->size);
        collectives_reduce((void *[]){to + offset, shown + offset}, 2, those, s->world, some, t->dtype, t->op);
    }
}

/* Reduce the own slice of piece `at` out of everybody's buffer `slot`, and put it where nobody has anything. */
static void reduce_staged_slice(shm *s, const struct shm_task *t, size_t at, uint64_t slot)
{
    size_t lo, hi;
    const char *from[SHM_RANKS_MAX];
    slice_of(s, s->rank, piece_count(t, at), t->size, &lo, &hi);
    size_t where = (at * t->piece + lo) * t->size;
    for (int r = 0; r < s->world; r++)
        from[r] = r == s->rank ? t->input + where : stage(s, r, slot) + lo * t->size;
    char *to = t->output + where, *shown = stage(s, s->rank, slot) + lo * t->size;
    if (!s->control->dear) {
        reduce_and_show(s, t, from, to, shown, hi - lo);
    } else if (hi > lo) {
        collectives_reduce((void *[]){to}, 1, (const void *const *)from, s->world, hi - lo, t->dtype, t->op);
        copy_in(s, t, shown, to, (hi - lo) * t->size);
    }
}

static void copy_slices_out(shm *s, const struct shm_task *t, size_t at, uint64_t slot)
{
    for (int r = 0; r < s->world; r++) {
        size_t lo, hi;
        slice_of(s, r, piece_count(t, at), t->size, &lo, &hi);
        if (r != s->rank)
            memcpy(t->output + (at * t->piece + lo) * t->size, stage(s, r, slot) + lo * t->size, (hi - lo) * t->size);
    }
}

/* All buffers are in shared memory: do this rank's part right there. */
static void go_direct(shm *s, const struct shm_task *t, char *const *theirs)
{
    const void *from[SHM_RANKS_MAX];
    void *to[SHM_RANKS_MAX];
    size_t lo = 0, hi = t->count, nbytes = t->count * t->size;
    switch (t->kind) {
    case COLLECTIVES_ALL_REDUCE:
        slice_of(s, s->rank, t->count, t->size, &lo, &hi);
        for (int r = 0; r < s->world; r++) {
            from[r] = theirs[r] + lo * t->size;
            to[(r - s->rank + s->world) % s->world] = theirs[r] + lo * t->size;
        }
        if (hi > lo)
            collectives_reduce(to, s->world, from, s->world, hi - lo, t->dtype, t->op);
        break;
    case COLLECTIVES_REDUCE_SCATTER:
        for (int r = 0; r < s->world; r++)
            from[r] = theirs[r] + (size_t)s->rank * nbytes;
        to[0] = t->output;
        collectives_reduce(to, 1, from, s->world, t->count, t->dtype, t->op);
        break;
    case COLLECTIVES_ALL_GATHER:
        for (int i = 0; i < s->world; i++) { /* each begins with another, to spread the load */
            int r = (s->rank + i) % s->world;
            char *place = t->output + (size_t)r * nbytes;
            if (place != theirs[r])
                memmove(place, theirs[r], nbytes);
        }
        break;
    case COLLECTIVES_BROADCAST:
        if (t->root != s->rank)
            memcpy(t->output, theirs[t->root], nbytes);
        break;
    default:
        break;
    }
}

static void plan_pieces(shm *s, struct shm_task *t)
{
    t->piece = s->chunk / t->size / (t->kind == COLLECTIVES_REDUCE_SCATTER ? (size_t)s->world : 1);
    t->pieces = (t->count + t->piece - 1) / t->piece;
}

/* Show the note and, when the staged way is likely, have the first piece there with it. */
static enum step show(shm *s, struct shm_task *t)
{
    struct shm_note *note = &s->control->seats[s->rank].notes[s->notes++ % 2];
    size_t offset = 0, nbytes = shown_bytes(s, t);
    struct shm_region *region = t->kind == COLLECTIVES_BARRIER ? NULL : find_region(s, t->input, nbytes, &offset);
    struct shm_call own = {(int32_t)t->kind, (int32_t)t->dtype, (int32_t)t->op, t->root, t->count};
    *note =
        (struct shm_note){.call = t->part_of ? *t->part_of : own, .region = region ? region->id : -1, .offset = offset};
    plan_pieces(s, t);
    if (t->kind != COLLECTIVES_BARRIER && (!region || nbytes <= s->control->small)) {
        note->staged = 1;
        stage_in(s, t, 0, s->slot);
    }
    t->phase = PHASE_AGREE;
    return STEP_BARRIER;
}

struct shm_call collectives_shm_call(const collectives_op *op)
{
    return (struct shm_call){(int32_t)op->kind, (int32_t)op->dtype, (int32_t)op->op, op->root, op->count};
}

static void describe_call(const struct shm_call *call, char *text, size_t nbytes)
{
    char what[COLLECTIVES_TEXT];
    collectives_op op = {.kind = (collectives_kind)call->kind, .dtype = (cadre_dtype)call->dtype, .count = call->count};
    collectives_describe(&op, what);
    if (call->kind == COLLECTIVES_BROADCAST)
        snprintf(text, nbytes, "%s from rank %d", what, (int)call->root);
    else if (call->kind == COLLECTIVES_ALL_REDUCE || call->kind == COLLECTIVES_REDUCE_SCATTER)
        snprintf(text, nbytes, "%s (operation %d)", what, (int)call->op);
    else
        snprintf(text, nbytes, "%s", what);
}

bool collectives_shm_same(int a, const struct shm_call *first, int b, const struct shm_call *second, char *text,
                          size_t nbytes)
{
    char one[COLLECTIVES_TEXT + 64], other[COLLECTIVES_TEXT + 64];
    if (first->kind == second->kind && first->dtype == second->dtype && first->op == second->op &&
        first->root == second->root && first->count == second->count)
        return true;
    describe_call(first, one, sizeof one);
    describe_call(second, other, sizeof other);
    snprintf(text, nbytes, "rank %d calls %s, rank %d %s", a, one, b, other);
    return false;
}

/* Read everybody's notes: the same call, and which way. */
static int agree(shm *s, const collectives_op *op, struct shm_task *t, char **theirs, bool *some_late)
{
    const struct shm_seat *seats = s->control->seats;
    uint64_t turn = (s->notes - 1) % 2;
    const struct shm_note *first = &seats[0].notes[turn];
    int shared = 0, staged = 0;
    for (int r = 0; r < s->world; r++) {
        const struct shm_note *note = &seats[r].notes[turn];
        char text[2 * COLLECTIVES_TEXT];
        if (!collectives_shm_same(collectives_shm_name(s, 0), &first->call, collectives_shm_name(s, r), &note->call,
                                  text, sizeof text))
            return collectives_shm_fail(s, op, CADRE_EMISMATCH, text);
        shared += note->region >= 0;
        staged += note->staged;
    }
    size_t nbytes = shown_bytes(s, t);
    bool direct = shared == s->world && nbytes > s->control->small;
    for (int r = 0; direct && r < s->world; r++) {
        const struct shm_note *note = &seats[r].notes[turn];
        struct shm_region *region = s->regions;
        while (region && region->id != note->region)
            region = region->next;
        if (!region) /* freed here, but not there: cannot be, since this rank found its own in it */
            return collectives_shm_fail(s, op, CADRE_EMISMATCH, "the ranks' buffers lie in different allocations");
        theirs[r] = (char *)region->base[r] + note->offset;
    }
    bool sliced = t->kind == COLLECTIVES_ALL_REDUCE && t->pieces > 1 && !hands_over(s, t);
    t->way = direct ? DIRECT : sliced ? SLICED : STAGED;
    *some_late = !direct && staged < s->world;
    return CADRE_OK;
}

/* One piece after another. Here piece t->at lies in everybody's buffer s->slot. */
static enum step next_piece(shm *s, struct shm_task *t)
{
    if (t->way == SLICED) {
        if (t->at < t->pieces)
            reduce_staged_slice(s, t, t->at, s->slot);
        if (t->at > 0)
            copy_slices_out(s, t, t->at - 1, s->slot - 1);
        if (t->at == t->pieces)
            return STEP_DONE;
        s->slot++;
        t->at++;
    } else {
        stage_out(s, t, t->at, s->slot++);
        if (++t->at == t->pieces)
            return STEP_DONE;
    }
    if (t->at < t->pieces)
        stage_in(s, t, t->at, s->slot);
    return STEP_BARRIER;
}

static int step(shm *s, const collectives_op *op, struct shm_task *t, enum step *next)
{
    char *theirs[SHM_RANKS_MAX];
    bool some_late = false;
    BASE_FAULT("collective");
    switch (t->phase) {
    case PHASE_SHOW:
        *next = show(s, t);
        return CADRE_OK;
    case PHASE_AGREE: {
        int status = agree(s, op, t, theirs, &some_late);
        if (status)
            return status;
        *next = STEP_DONE;
        if (t->kind == COLLECTIVES_BARRIER)
            return CADRE_OK;
        if (t->way == DIRECT) {
            go_direct(s, t, theirs);
            t->phase = PHASE_LEAVE;
            *next = STEP_BARRIER;
        } else if (some_late) {
            /* Some found theirs in shared memory and staged nothing; now they do. */
            stage_in(s, t, 0, s->slot);
            t->phase = PHASE_PIECES;
            *next = STEP_BARRIER;
        } else {
            t->phase = PHASE_PIECES;
            *next = next_piece(s, t);
        }
        return CADRE_OK;
    }
    case PHASE_PIECES:
        *next = next_piece(s, t);
        return CADRE_OK;
    default:
        *next = STEP_DONE;
        return CADRE_OK;
    }
}

/* Go on until the task is done or waits at a barrier that is not complete. */
static int advance(shm *s, collectives_op *op, bool *done)
{
    struct shm_task *t = &s->task;
    *done = false;
    for (;;) {
        enum step next;
        if (t->waiting) {
            bool complete;
            int status = collectives_shm_poll(s, op, &complete);
            if (status || !complete)
                return status;
            t->waiting = false;
        }
        int status = step(s, op, t, &next);
        if (status)
            return status;
        if (next == STEP_DONE) {
            *done = true;
            return CADRE_OK;
        }
        collectives_shm_arrive(s);
        t->waiting = true;
    }
}

int collectives_shm_finish(shm *s, collectives_op *op)
{
    for (;;) {
        bool done;
        bool first = s->task.phase == PHASE_AGREE;
        int status = s->task.waiting ? collectives_shm_await(s, op, first ? &op->late_ns : &(int64_t){0}) : CADRE_OK;
        if (!status)
            status = advance(s, op, &done);
        if (status || done)
            return status;
    }
}

int collectives_shm_run(shm *s, collectives_op *op, struct shm_task task)
{
    int status = collectives_shm_alarmed(s, op);
    if (status)
        return status;
    s->task = task;
    return collectives_shm_finish(s, op);
}

int collectives_shm_begin(shm *s, collectives_op *op)
{
    int status = collectives_shm_alarmed(s, op);
    if (!status)
        s->task = collectives_shm_task(op);
    return status;
}

int collectives_shm_test(shm *s, collectives_op *op, bool *done) { return advance(s, op, done); }
