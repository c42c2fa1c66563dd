/* A worker's life: from its start message to its last word. */
#ifndef TRAINER_WORKER_H
#define TRAINER_WORKER_H

#include "cadre/trainer.h"
#include "link.h"

#include <signal.h>

/** The environment by which an executed (not forked) worker knows itself. */
#define WORKER_ENV_TRAINER "CADRE_WORKER_TRAINER" /* the trainer's run.name */
#define WORKER_ENV_FD "CADRE_WORKER_FD"           /* a connected descriptor, or */
#define WORKER_ENV_SOCKET "CADRE_WORKER_SOCKET"   /* the path of the controller's socket */
#define WORKER_ENV_KEY "CADRE_WORKER_KEY"         /* with the socket: what proves that it is a worker of the group */
#define WORKER_ENV_LOGS "CADRE_WORKER_LOGS"       /* the directory for its log; without, it prints where it is told to */
#define WORKER_ENV_RANK "CADRE_WORKER_RANK"       /* unless mpirun gives the rank */
#define WORKER_ENV_ATTEMPT "CADRE_WORKER_ATTEMPT"

/** Load what writing a stack takes; once is enough, and children inherit it. */
void worker_prepare(void);
/** From here on SIGUSR1 and SIGTERM mean "save and leave", SIGUSR2 "write where you are into the log". */
void worker_take_signals(void);

enum { WORKER_SIGNALS = 5 };
/** What the program itself does about the signals that a worker takes over (and SIGINT): for workers that are the program's own process. */
typedef struct worker_signals {
    struct sigaction was[WORKER_SIGNALS];
} worker_signals;
/** Keep them and take them over; nobody has asked to leave yet. `alone`: no controller is there to do it, so a second SIGTERM ends the process. */
void worker_borrow_signals(worker_signals *kept, bool alone);
void worker_give_back_signals(const worker_signals *kept);

#define WORKER_ENV_CALL "CADRE_WORKER_CALL" /* which call of fit in the program it belongs to, from 1 */

/** Begin a call of fit. Is this process an executed worker, and this the call that it belongs to? */
bool worker_is_executed(const char *trainer_name);
/** Is it one that belongs to a later call? Then this call has nothing to do here. */
bool worker_is_underway(void);
/** The number of the call that worker_is_executed began last. */
int worker_call(void);

/** Run as such a worker; the process's exit code. */
int worker_run_executed(const cadre_trainer *trainer);

/**
 * Run as rank `rank` of attempt `attempt` over `fd`, which is connected to the controller; the process's exit code. `key` goes into the hello; NULL:
 * the channel is one that only this process can have.
 */
int worker_run(const cadre_trainer *trainer, int rank, int attempt, int fd, const char *key);

/**
 * The common core: make session and communicator, call the train function. `oob` is how the ranks find each other. Answers the train
 * function's status, CADRE_STOP when it left on request, or why it could not begin.
 */
int worker_train(const cadre_trainer *trainer, const json_t *start, const cadre_oob *oob, trainer_link *link);

#endif
