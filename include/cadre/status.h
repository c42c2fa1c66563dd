/*
 * Status codes and the calling thread's error message.
 *
 * Every function that can fail returns 0 (CADRE_OK) or a negative code from the list below; a few answer with a positive
 * code that is not an error (CADRE_STOP). On failure the outputs are untouched and cadre_error_message() tells what
 * happened, layer by layer: "restore trial 7: open runs/first/checkpoint-3: no such file".
 */
#ifndef CADRE_STATUS_H
#define CADRE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CADRE_API __attribute__((visibility("default")))
#else
#define CADRE_API
#endif

/** X(name, value, text): every status there is. New codes are appended; values never change. */
#define CADRE_STATUS_MAP(X)                                                                                            \
    X(OK, 0, "success")                                                                                                \
    X(STOP, 1, "asked to stop")                                                                                        \
    X(EINVAL, -1, "invalid argument")                                                                                  \
    X(ENOMEM, -2, "out of memory")                                                                                     \
    X(EIO, -3, "input/output error")                                                                                   \
    X(ENOSPC, -4, "no space left")                                                                                     \
    X(ENOENT, -5, "not found")                                                                                         \
    X(EEXIST, -6, "exists already")                                                                                    \
    X(EACCES, -7, "permission denied")                                                                                 \
    X(ECORRUPT, -8, "data is damaged")                                                                                 \
    X(EVERSION, -9, "made by another version")                                                                         \
    X(EBUSY, -10, "in use by another process")                                                                         \
    X(ETIMEDOUT, -11, "deadline passed")                                                                               \
    X(EPEER, -12, "a peer was lost")                                                                                   \
    X(EMISMATCH, -13, "ranks disagree")                                                                                \
    X(ENOTSUP, -14, "not supported")                                                                                   \
    X(ECANCELED, -15, "cancelled")                                                                                     \
    X(ESTATE, -16, "called at the wrong time")                                                                         \
    X(ECLOSED, -17, "connection closed")                                                                               \
    X(EPROTO, -18, "malformed message")                                                                                \
    X(ETORCH, -19, "libtorch error")                                                                                   \
    X(ETRAIN, -20, "training failed")                                                                                  \
    X(ESYSTEM, -21, "system call failed")

typedef enum cadre_status {
#define CADRE_STATUS_ENUM(name, value, text) CADRE_##name = value,
    CADRE_STATUS_MAP(CADRE_STATUS_ENUM)
#undef CADRE_STATUS_ENUM
} cadre_status;

/**
 * The message of the last failure on the calling thread: one line, no newline at its end, "" when nothing failed yet.
 * Borrowed; valid until the next cadre call on this thread.
 */
CADRE_API const char *cadre_error_message(void);

/**
 * Set the calling thread's message (as printf; one line) and return `status`: how a program's own callbacks fail,
 * `return cadre_fail(CADRE_EINVAL, "fold %d of %d", fold, folds);`.
 */
CADRE_API int cadre_fail(int status, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/** The code's name, "EIO" for CADRE_EIO; "unknown" for a number that is no status. Static. Any thread. */
CADRE_API const char *cadre_status_name(int status);

/** The code's few words, "no space left" for CADRE_ENOSPC. Static. Any thread. */
CADRE_API const char *cadre_status_text(int status);

#ifdef __cplusplus
}
#endif
#endif
