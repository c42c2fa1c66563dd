/* The thread's latest error, and the one place where exceptions end. */
#include "internal.h"

#include <c10/util/Exception.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

namespace {

thread_local ct_status last_status = CT_OK;
thread_local char last_message[2048];

void file(ct_status status, const char *where, const char *what) noexcept
{
    char message[sizeof last_message]; /* `what` may be last_message itself */
    if (where)
        std::snprintf(message, sizeof message, "%s: %s", where, what);
    else
        std::snprintf(message, sizeof message, "%s", what);
    std::memcpy(last_message, message, sizeof message);
    last_status = status;
}

} // namespace

namespace ct {

void fail(ct_status status, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    std::vsnprintf(message, sizeof message, format, args);
    va_end(args);
    throw Error(status, message);
}

void clear_status() noexcept { last_status = CT_OK; }

void throw_callback_status(const char *what, ct_status status)
{
    if (last_status == status) /* it failed in a call of ours: that message says more */
        throw CallbackError(status, last_message);
    throw CallbackError(status, std::string(what) + " returned " + std::to_string(status));
}

ct_status caught(const char *where) noexcept
{
    try {
        throw;
    } catch (const CallbackError &e) {
        file(e.status, nullptr, e.what());
    } catch (const Error &e) {
        file(e.status, where, e.what());
    } catch (const std::bad_alloc &) {
        file(CT_ENOMEM, where, "out of memory");
    } catch (const c10::Error &e) {
        const char *what = e.what_without_backtrace();
        /* libtorch's CPU allocator reports exhaustion as a plain error. */
        const bool memory = std::strstr(what, "can't allocate memory") || std::strstr(what, "not enough memory") ||
                            std::strstr(what, "CUDA out of memory");
        file(memory ? CT_ENOMEM : CT_ETORCH, where, what);
    } catch (const std::exception &e) {
        file(CT_ETORCH, where, e.what());
    } catch (...) {
        file(CT_EINTERNAL, where, "unknown exception");
    }
    return last_status;
}

ct_status caught_in(const char *part) noexcept
{
    caught(nullptr);
    file(last_status, part, last_message);
    return last_status;
}

} // namespace ct

const char *ct_status_name(ct_status status)
{
    switch (status) {
#define CT_STATUS_CASE(name, code, text)                                                                                       \
    case code:                                                                                                                 \
        return "CT_" #name;
        CT_STATUS_MAP(CT_STATUS_CASE)
#undef CT_STATUS_CASE
    default:
        return "CT_UNKNOWN";
    }
}

const char *ct_error_message(void) { return last_message; }
ct_status ct_last_status(void) { return last_status; }
const char *ct_version(void) { return "0.1.0"; }
const char *ct_torch_version(void) { return TORCH_VERSION; }
