/*
 * Events are gathered in memory and written a few thousand at a time: under a lock on the file, over the bracket that
 * closes the list, with a new bracket after them. So the file is whole whenever nobody writes; and where a writer was
 * killed in the middle of it, the next one goes on after the last event that is whole, as does whoever closes the file.
 * The first to open it writes the moment that all times are counted from.
 */
#include "base/timeline.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/number.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = 1 << 16, EVENT = 700, NAME = 200 };

static const char head[] = "[\n{\"name\":\"cadre\",\"ph\":\"M\",\"pid\":0,\"args\":{\"begun_us\":%" PRId64 "}}\n]\n";
static const char tail[] = "\n]\n";
enum { TAIL = sizeof tail - 1 };

static atomic_bool on;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static int file = -1, status, process;
static int64_t zero_ns; /* on the monotonic clock */
static char events[ROOM], message[256];
static size_t used;

static void note(int failed)
{
    if (!failed || status)
        return;
    status = failed;
    snprintf(message, sizeof message, "%s", cadre_error_message());
}

static int write_all(const char *bytes, size_t nbytes, off_t at)
{
    while (nbytes > 0) {
        ssize_t wrote = pwrite(file, bytes, nbytes, at);
        if (wrote < 0 && errno != EINTR)
            return base_errno(errno, "write the timeline");
        if (wrote > 0) {
            bytes += wrote;
            nbytes -= (size_t)wrote;
            at += wrote;
        }
    }
    return CADRE_OK;
}

/* Where the list goes on: at its closing bracket or, where that was overwritten and no new one came, after the last whole
 * event. Under the lock on the file. */
static int find_end(off_t size, off_t *end)
{
    static char last[ROOM + EVENT]; /* at least what one write may have begun */
    size_t nbytes = size < (off_t)sizeof last ? (size_t)size : sizeof last;
    off_t from = size - (off_t)nbytes;
    if (pread(file, last, TAIL, size - TAIL) == TAIL && memcmp(last, tail, TAIL) == 0) {
        *end = size - TAIL;
        return CADRE_OK;
    }
    if (pread(file, last, nbytes, from) != (ssize_t)nbytes)
        return base_errno(errno, "read the timeline");
    for (size_t i = nbytes; i-- > 1;)
        if (last[i - 1] == ',' && last[i] == '\n') { /* nowhere but between events */
            *end = from + (off_t)i - 1;
            return CADRE_OK;
        }
    return base_error(CADRE_ECORRUPT, "the timeline was cut");
}

/* Under the mutex. */
static int flush_events(void)
{
    struct stat info;
    off_t end = 0;
    if (file < 0)
        return CADRE_OK;
    memcpy(events + used, tail, TAIL);
    while (flock(file, LOCK_EX) != 0)
        if (errno != EINTR)
            return base_errno(errno, "lock the timeline");
    int failed = fstat(file, &info) != 0 ? base_errno(errno, "size of the timeline") : find_end(info.st_size, &end);
    /* First of all, and up to where the next one would go on, too: or half an event could stay behind the bracket. */
    if (!failed && end + TAIL < info.st_size && ftruncate(file, end + 2) != 0)
        failed = base_errno(errno, "cut the timeline");
    if (!failed)
        failed = write_all(events, used + TAIL, end);
    flock(file, LOCK_UN);
    used = 0;
    return failed;
}

static void add(const char *event, size_t nbytes)
{
    if (used + nbytes + 2 + TAIL > ROOM)
        note(flush_events());
    events[used++] = ',';
    events[used++] = '\n';
    memcpy(events + used, event, nbytes);
    used += nbytes;
}

/* As the inside of a JSON string; control characters become spaces, and what is not ASCII is left to be UTF-8. */
static void escape(const char *text, char out[2 * NAME + 1])
{
    size_t n = 0;
    for (size_t i = 0; text[i] && i < NAME; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            out[n++] = '\\';
        out[n++] = c < 0x20 ? ' ' : (char)c;
    }
    while (n > 0 && text[0] && strlen(text) > NAME && ((unsigned char)out[n - 1] & 0xc0) == 0x80)
        n--; /* a character that was cut in the middle */
    if (n > 0 && strlen(text) > NAME && (unsigned char)out[n - 1] >= 0xc0)
        n--;
    out[n] = '\0';
}

static void add_metadata(const char *title, int order)
{
    char name[2 * NAME + 1], event[EVENT];
    escape(title, name);
    int n = base_number_format(event, sizeof event, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"%s\"}}", process, name);
    add(event, (size_t)n);
    n = snprintf(event, sizeof event, "{\"name\":\"process_sort_index\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"sort_index\":%d}}", process, order);
    add(event, (size_t)n);
    n = snprintf(event, sizeof event, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":1,\"args\":{\"name\":\"beside\"}}", process);
    add(event, (size_t)n);
}

/* The zero of the times: what the file says, or now if it is new. */
static int find_zero(int64_t *begun_us)
{
    char text[sizeof head + 24];
    struct stat info;
    int failed = CADRE_OK;
    while (flock(file, LOCK_EX) != 0)
        if (errno != EINTR)
            return base_errno(errno, "lock the timeline");
    if (fstat(file, &info) != 0) {
        failed = base_errno(errno, "size of the timeline");
    } else if (info.st_size == 0) {
        *begun_us = base_utc_us();
        int n = snprintf(text, sizeof text, head, *begun_us);
        failed = write_all(text, (size_t)n, 0);
    } else {
        ssize_t got = pread(file, text, sizeof text - 1, 0);
        text[got > 0 ? got : 0] = '\0';
        char *at = strstr(text, "begun_us\":");
        if (!at || sscanf(at, "begun_us\":%" SCNd64, begun_us) != 1)
            failed = base_error(CADRE_EEXIST, "it is there already and no timeline");
    }
    flock(file, LOCK_UN);
    return failed;
}

int base_timeline_open(const char *path, const char *title, int order)
{
    int64_t begun_us = 0;
    base_timeline_close();
    int failed = base_open(path, O_RDWR | O_CREAT, 0600, &file);
    if (!failed) {
        failed = find_zero(&begun_us);
        if (failed) {
            base_close(file);
            file = -1;
        }
    }
    if (failed)
        return base_wrap(failed, "timeline %s", path);
    pthread_mutex_lock(&lock);
    zero_ns = base_now_ns() - (base_utc_us() - begun_us) * 1000;
    process = (int)getpid();
    status = CADRE_OK;
    used = 0;
    add_metadata(title, order);
    atomic_store(&on, true);
    pthread_mutex_unlock(&lock);
    return CADRE_OK;
}

void base_timeline_flush(void)
{
    pthread_mutex_lock(&lock);
    note(flush_events());
    pthread_mutex_unlock(&lock);
}

int base_timeline_close(void)
{
    pthread_mutex_lock(&lock);
    int failed = CADRE_OK;
    if (file >= 0) {
        note(flush_events());
        base_close(file);
        file = -1;
        failed = status ? base_error(status, "%s", message) : CADRE_OK;
    }
    atomic_store(&on, false);
    pthread_mutex_unlock(&lock);
    return failed;
}

int64_t cadre_timeline_begin(void) { return atomic_load_explicit(&on, memory_order_relaxed) ? base_now_ns() : 0; }

static void end(int64_t begun, int row, const char *category, const char *name)
{
    char words[2][2 * NAME + 1], event[2 * EVENT];
    if (!begun || !category || !name)
        return;
    int64_t now = base_now_ns();
    escape(category, words[0]);
    escape(name, words[1]);
    pthread_mutex_lock(&lock);
    int n = base_number_format(event, sizeof event, "{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f}", words[1],
                     words[0], process, row, (double)(begun - zero_ns) / 1e3, (double)(now - begun) / 1e3);
    if (file >= 0 && n > 0 && (size_t)n < sizeof event)
        add(event, (size_t)n);
    pthread_mutex_unlock(&lock);
}

void cadre_timeline_end(int64_t begun, const char *category, const char *name) { end(begun, 0, category, name); }
void cadre_timeline_end_beside(int64_t begun, const char *category, const char *name) { end(begun, 1, category, name); }
