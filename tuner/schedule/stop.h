/* The stoppers at work (cadre_stop in cadre/schedule.h). Fed the same reports and ends in the same order, it says the same. */
#ifndef TUNER_SCHEDULE_STOP_H
#define TUNER_SCHEDULE_STOP_H

#include "cadre/schedule.h"

typedef enum tuner_stop_verdict { TUNER_STOP_NOT, TUNER_STOP_TRIAL, TUNER_STOP_EXPERIMENT } tuner_stop_verdict;

typedef struct tuner_stop tuner_stop;

/** `maximize`: values are as the program reports them, higher is better. CADRE_EINVAL names a bad option. */
int tuner_stop_new(const cadre_stop *rules, bool maximize, tuner_stop **out);
void tuner_stop_free(tuner_stop *stop);

/** A report, with the value as reported; `elapsed_s`: of the experiment. `*reason` (static text) says which rule it was. */
tuner_stop_verdict tuner_stop_report(tuner_stop *stop, int64_t trial, int64_t report, double value, double elapsed_s, const char **reason);
/** A trial is over with this final value (NaN: none). */
tuner_stop_verdict tuner_stop_end(tuner_stop *stop, int64_t trial, double value, const char **reason);

#endif
