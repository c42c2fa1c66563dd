#include "text.h"

#include "base/error.h"

#include <stdint.h>

/* Bytes of the sequence that starts at `at`, 0 when it is malformed. The text's end stops it, being no continuation
 * byte. */
static int sequence_length(const unsigned char *at)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    int length = at[0] < 0x80 ? 1 : at[0] >> 5 == 0x06 ? 2 : at[0] >> 4 == 0x0E ? 3 : at[0] >> 3 == 0x1E ? 4 : 0;
    if (length < 2)
        return length;
    uint32_t point = at[0] & (0xFFu >> (length + 1));
    for (int i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        point = point << 6 | (at[i] & 0x3F);
    }
    bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    return point < smallest[length] || point > 0x10FFFF || surrogate ? 0 : length;
}

bool state_utf8_valid(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        int length = sequence_length(at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

bool state_json_no_memory(const json_error_t *where)
{
    return json_error_code(where) == json_error_out_of_memory || !*where->text;
}

struct sink {
    base_buffer *out;
    int status; /* of the first append that failed; sticky */
};

static int append(const char *bytes, size_t nbytes, void *user)
{
    struct sink *sink = user;
    if (sink->status == CADRE_OK)
        sink->status = base_buffer_append(sink->out, bytes, nbytes);
    return sink->status == CADRE_OK ? 0 : -1;
}

int state_json_print(const json_t *json, size_t flags, base_buffer *out)
{
    size_t start = out->length;
    struct sink sink = {.out = out};
    if (json && json_dump_callback(json, append, &sink, flags) == 0 && sink.status == CADRE_OK)
        return CADRE_OK;
    out->length = start;
    return base_error(CADRE_ENOMEM, "out of memory for JSON");
}
