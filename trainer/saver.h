/*
 * Saving on one rank: a state, or the rank's share of it, is copied in memory and written to its directory, at once or behind the training by a
 * thread that lives for one writing. At most one is in flight: the next one waits for it. One thread uses a saver.
 *
 * Whole: rank 0 writes all (saver_save). Sharded: each rank writes its share (saver_save with `shards`), and when all are down, which the session
 * finds out, rank 0 makes a checkpoint of them (saver_commit).
 */
#ifndef TRAINER_SAVER_H
#define TRAINER_SAVER_H

#include "cadre/checkpoint.h"
#include "trainer/state/checkpoint.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct saver {
    state_snapshot *snapshot; /* its memory serves again */
    void *locals;             /* owned until the next saving, to try again */
    char *path, name[32];     /* of the directory: whole, and its last part */
    cadre_checkpoint_info meta, info; /* as given, and as written */
    checkpoint_file file;     /* this rank's, of a sharded one */
    checkpoint_file *files;   /* of all ranks, for the commit; owned */
    bool taken;               /* the copy is whole */
    int (*work)(struct saver *saver); /* what is being written */
    int status;               /* of the writing, with its message */
    char message[1024];
    double write_s;           /* that the writing took */
    double stall_s;           /* that the training waited for this checkpoint */
    bool behind;              /* saver_finish has not been asked for its outcome yet */
    bool running;             /* the thread is to be joined */
    atomic_bool done;         /* it has nothing more to do */
    pthread_t thread;
} saver;

/** What is to be saved, and as what. */
typedef struct saver_order {
    const char *directory;
    int64_t number;             /* of the checkpoint in there */
    cadre_checkpoint_info info; /* report, attempt and world */
    int rank, shards;           /* the share of this rank of so many; 0: all */
    bool behind;                /* answer as soon as the copy is made; else when it is on disk */
} saver_order;

/** Bytes of a state from which on it is written behind by itself: below, a thread costs more than the writing. */
enum { SAVER_BEHIND_NBYTES = 1 << 20 };

/** Save `state`, with every rank's local entries, or of a share this rank's (`locals`, malloc'd, taken over in any case). No writing may be in flight. */
int saver_save(saver *saver, cadre_state *state, void *locals, const saver_order *order);
/** There is no copy to be saved, for this reason, whose message stands: what saver_again answers. */
void saver_fail(saver *saver, int status);
/** Rank 0: every rank's share is down. `files` (one for each rank, malloc'd) is taken over. */
int saver_commit(saver *saver, checkpoint_file *files, bool behind);
/** Rank 0: the checkpoint is given up; what was written of it goes. No rank may be writing. */
void saver_drop(const saver *saver);
/**
 * The outcome of what is in flight: `*finished` says whether there is one to be taken, `wait` waits for it. The answer is the writing's status; name,
 * info and times stand in `saver`.
 */
int saver_finish(saver *saver, bool wait, bool *finished);
/** Write once more what the last writing could not; training waits. The same failure when there is no copy to be written. */
int saver_again(saver *saver);
/** Waits for what is in flight, whatever comes of it. */
void saver_close(saver *saver);

#endif
