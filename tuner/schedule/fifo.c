/* FIFO: every trial runs to its end. */
#include "cadre/schedule.h"

static int create(const void *options, uint64_t seed, void **self)
{
    (void)options;
    (void)seed;
    *self = NULL;
    return CADRE_OK;
}

static cadre_decision on_report(void *self, const cadre_schedule_report *report)
{
    (void)self;
    (void)report;
    return CADRE_DECIDE_GO_ON;
}

static void free_fifo(void *self) { (void)self; }

const cadre_scheduler_table cadre_scheduler_fifo = {
    .abi = CADRE_SCHEDULER_ABI, .size = sizeof(cadre_scheduler_table), .name = "fifo", .create = create, .on_report = on_report, .free = free_fifo};
