#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAULT_MAX = 16 };

struct fault {
    char point[48];
    char action[12];
    long at;        /* passage it strikes at, from 1 */
    bool from_then; /* and at every later one */
    int rank;       /* -1: any */
    long passed;
};

bool base_fault_armed;
static struct fault faults[FAULT_MAX];
static int fault_count;
static int own_rank = -1;

/* One entry, "point:N[+][:action][@rank]"; a malformed one is ignored: it can only come from a test. */
static void parse_one(char *entry)
{
    struct fault fault = {.rank = -1, .at = 1};
    char *rank = strchr(entry, '@');
    if (rank) {
        *rank = '\0';
        fault.rank = atoi(rank + 1);
    }
    char *save = NULL;
    char *point = strtok_r(entry, ":", &save);
    char *count = strtok_r(NULL, ":", &save);
    char *action = strtok_r(NULL, ":", &save);
    if (!point || fault_count == FAULT_MAX)
        return;
    snprintf(fault.point, sizeof fault.point, "%s", point);
    snprintf(fault.action, sizeof fault.action, "%s", action ? action : "fail");
    if (count) {
        char *end;
        fault.at = strtol(count, &end, 10);
        fault.from_then = *end == '+';
    }
    faults[fault_count++] = fault;
}

void base_fault_set(const char *spec)
{
    fault_count = 0;
    if (spec) {
        char copy[1024];
        snprintf(copy, sizeof copy, "%s", spec);
        char *save = NULL;
        for (char *entry = strtok_r(copy, ",", &save); entry; entry = strtok_r(NULL, ",", &save))
            parse_one(entry);
    }
    base_fault_armed = fault_count > 0;
}

void base_fault_set_rank(int rank)
{
    own_rank = rank;
    for (int i = 0; i < fault_count; i++)
        faults[i].passed = 0;
}

__attribute__((constructor)) static void arm_from_environment(void)
{
    const char *spec = getenv("CADRE_FAULT");
    if (spec && *spec)
        base_fault_set(spec);
}

static int strike(const char *action)
{
    if (strcmp(action, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(action, "segv") == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    } else if (strcmp(action, "stop") == 0)
        raise(SIGSTOP);
    else if (strcmp(action, "exit") == 0)
        _exit(3);
    else if (strcmp(action, "enospc") == 0)
        return ENOSPC;
    else if (strcmp(action, "oom") == 0)
        return ENOMEM;
    else if (strcmp(action, "short") == 0)
        return -1;
    else
        return EIO;
    return 0;
}

int base_fault_hit(const char *point)
{
    for (int i = 0; i < fault_count; i++) {
        struct fault *fault = &faults[i];
        if (strcmp(fault->point, point) != 0 || (fault->rank >= 0 && fault->rank != own_rank))
            continue;
        long passage = __atomic_add_fetch(&fault->passed, 1, __ATOMIC_RELAXED);
        if (passage == fault->at || (fault->from_then && passage > fault->at))
            return strike(fault->action);
    }
    return 0;
}
