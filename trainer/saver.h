/*
 * Rank 0's half of saving: a state is copied in memory and written to its directory, at once or behind the training by a thread that lives
 * for one checkpoint. At most one is in flight: the next one waits for it. One thread uses a saver.
 */
#ifndef TRAINER_SAVER_H
#define TRAINER_SAVER_H

#include "cadre/checkpoint.h"
#include "trainer/state/state.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct saver {
    state_snapshot *snapshot; /* its memory serves again */
    void *locals;             /* owned until the next saving, to try again */
    char *path, name[32];     /* of the directory: whole, and its last part */
    cadre_checkpoint_info meta, info; /* as given, and as written */
    int status;               /* of the writing, with its message */
    char message[1024];
    double write_s;           /* that the writing took */
    double stall_s;           /* that the training waited for this checkpoint */
    bool behind;              /* saver_finish has not been asked for its outcome yet */
    bool running;             /* the thread is to be joined */
    atomic_bool done;         /* it has nothing more to do */
    pthread_t thread;
} saver;

/** Bytes of a state from which on it is written behind by itself: below, a thread costs more than the writing. */
enum { SAVER_BEHIND_NBYTES = 1 << 20 };

/**
 * Save `state` with every rank's local entries (`locals`, malloc'd, taken over in any case) as checkpoint `number` in `directory`. `info` gives
 * report, attempt and world. `behind`: answer as soon as the copy is made; else when it is on disk. No writing may be in flight.
 */
int saver_save(saver *saver, cadre_state *state, void *locals, const char *directory, int64_t number, const cadre_checkpoint_info *info, bool behind);
/**
 * The outcome of what is in flight: `*finished` says whether there is one to be taken, `wait` waits for it. The answer is the writing's status; name,
 * info and times stand in `saver`.
 */
int saver_finish(saver *saver, bool wait, bool *finished);
/** Write once more what the last saving could not; training waits. */
int saver_again(saver *saver);
/** Waits for what is in flight, whatever comes of it. */
void saver_close(saver *saver);

#endif
