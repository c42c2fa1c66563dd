#include "idx_read.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    UNSIGNED_BYTE = 0x08, /* the type code in the third byte of the magic number; the only one MNIST and its kin use */
    DEFLATE_RATIO = 1032, /* no deflate stream unpacks to more than this many times its size (zlib's technical notes) */
    INPUT_SIZE = 16 << 10, /* bytes read at a time */
};
/* More in one array is a damaged header rather than a data set. */
static const uint64_t size_limit = (uint64_t)64 << 30;

/* Where the bytes come from, and the gunzip behind it when they are packed. */
typedef struct source {
    const char *name;
    uint64_t size;               /* bytes of the file, packed or not */
    int fd;                      /* -1: from memory */
    const unsigned char *memory; /* what is left of it */
    size_t memory_left;
    bool gzip;
    bool ended;        /* the gzip data is whole and nothing follows */
    z_stream unpacker; /* next_in and avail_in serve plain data, too */
    unsigned char input[INPUT_SIZE];
} source;

/* Get some bytes to `buffer`; *got 0 is the end. */
static int fetch(source *from, unsigned char *buffer, size_t room, size_t *got)
{
    if (from->fd < 0) {
        *got = room < from->memory_left ? room : from->memory_left;
        memcpy(buffer, from->memory, *got);
        from->memory += *got;
        from->memory_left -= *got;
        return CADRE_OK;
    }
    ssize_t done;
    do
        done = BASE_FAULT("read") ? (errno = EIO, -1) : read(from->fd, buffer, room);
    while (done < 0 && errno == EINTR);
    if (done < 0)
        return base_errno(errno, "read %s", from->name);
    *got = (size_t)done;
    return CADRE_OK;
}

/* See to it that there is input, unless it has ended. */
static int refill(source *from)
{
    if (from->unpacker.avail_in)
        return CADRE_OK;
    size_t got;
    int status = fetch(from, from->input, sizeof from->input, &got);
    if (status != CADRE_OK)
        return status;
    from->unpacker.next_in = from->input;
    from->unpacker.avail_in = (uInt)got;
    return CADRE_OK;
}

static int unpack(source *from, unsigned char *buffer, size_t room, size_t *got)
{
    z_stream *z = &from->unpacker;
    *got = 0;
    while (*got < room && !from->ended) {
        int status = refill(from);
        if (status != CADRE_OK)
            return status;
        bool dry = z->avail_in == 0;
        uInt step = room - *got > (1u << 30) ? 1u << 30 : (uInt)(room - *got);
        z->next_out = buffer + *got;
        z->avail_out = step;
        int result = inflate(z, Z_NO_FLUSH);
        *got += step - z->avail_out;
        if (result == Z_STREAM_END) {
            if ((status = refill(from)) != CADRE_OK)
                return status;
            from->ended = z->avail_in == 0;
            inflateReset(z); /* a gzip file may have several members; what is none fails there */
        } else if (result == Z_MEM_ERROR) {
            return base_error(CADRE_ENOMEM, "%s: out of memory for unpacking", from->name);
        } else if (result == Z_BUF_ERROR && dry) {
            return base_error(CADRE_ECORRUPT, "%s: the gzip data ends too early", from->name);
        } else if (result != Z_OK && result != Z_BUF_ERROR) {
            return base_error(CADRE_ECORRUPT, "%s: the gzip data is damaged (%s)", from->name,
                              z->msg ? z->msg : "no reason given");
        }
    }
    return CADRE_OK;
}

/* Read up to `room` bytes; fewer only at the end. */
static int take(source *from, unsigned char *buffer, size_t room, size_t *got)
{
    if (from->gzip)
        return unpack(from, buffer, room, got);
    z_stream *z = &from->unpacker;
    *got = room < z->avail_in ? room : z->avail_in;
    if (*got)
        memcpy(buffer, z->next_in, *got);
    z->next_in += *got;
    z->avail_in -= (uInt)*got;
    for (size_t more = 1; *got < room && more; *got += more) {
        int status = fetch(from, buffer + *got, room - *got, &more);
        if (status != CADRE_OK)
            return status;
    }
    return CADRE_OK;
}

static uint32_t big_endian(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Magic number and dimensions; sets all but the bytes. */
static int take_header(source *from, data_idx_array *array)
{
    unsigned char bytes[4 * DATA_IDX_MAX_DIMS];
    size_t got;
    int status = take(from, bytes, 4, &got);
    if (status != CADRE_OK)
        return status;
    if (got < 4 || bytes[0] || bytes[1])
        return base_error(CADRE_ECORRUPT, "%s: this is no IDX file (it does not begin with two zero bytes and a type)",
                          from->name);
    if (bytes[2] != UNSIGNED_BYTE)
        return base_error(CADRE_ECORRUPT, "%s: elements of type 0x%02x are not taken, only unsigned bytes (0x08)",
                          from->name, bytes[2]);
    if (bytes[3] < 1 || bytes[3] > DATA_IDX_MAX_DIMS)
        return base_error(CADRE_ECORRUPT, "%s: %d dimensions; 1 to %d are taken", from->name, bytes[3],
                          DATA_IDX_MAX_DIMS);
    array->dims = bytes[3];
    if ((status = take(from, bytes, 4 * (size_t)array->dims, &got)) != CADRE_OK)
        return status;
    if (got < 4 * (size_t)array->dims)
        return base_error(CADRE_ECORRUPT, "%s: it ends within its header", from->name);
    uint64_t product = 1;
    for (int i = 0; i < array->dims; i++) {
        uint32_t extent = big_endian(bytes + 4 * i);
        if (extent == 0 || extent > INT_MAX)
            return base_error(CADRE_ECORRUPT, "%s: dimension %d is %" PRIu32, from->name, i, extent);
        if (product > size_limit / extent)
            return base_error(CADRE_ECORRUPT, "%s: its dimensions make more than %" PRIu64 " bytes", from->name,
                              size_limit);
        product *= extent;
        array->shape[i] = extent;
    }
    array->nbytes = (size_t)product;
    return CADRE_OK;
}

/* The dimensions against what the file can hold. */
static int check_size(const source *from, const data_idx_array *array)
{
    uint64_t header = 4 + 4 * (uint64_t)array->dims;
    if (from->gzip && array->nbytes / DEFLATE_RATIO > from->size)
        return base_error(CADRE_ECORRUPT,
                          "%s: its header promises %zu bytes, more than %" PRIu64 " bytes of gzip can hold", from->name,
                          array->nbytes, from->size);
    if (!from->gzip && array->nbytes != from->size - header)
        return base_error(CADRE_ECORRUPT, "%s: its header promises %zu bytes, but %" PRIu64 " follow", from->name,
                          array->nbytes, from->size - header);
    return CADRE_OK;
}

static voidpf unpacker_alloc(voidpf opaque, uInt items, uInt size)
{
    (void)opaque;
    return base_calloc(items, size);
}

static void unpacker_free(voidpf opaque, voidpf memory)
{
    (void)opaque;
    free(memory);
}

static int read_array(source *from, data_idx_array *array)
{
    unsigned char beyond;
    size_t got;
    int status = take_header(from, array);
    if (status == CADRE_OK)
        status = check_size(from, array);
    if (status != CADRE_OK)
        return status;
    array->bytes = base_malloc(array->nbytes);
    if (!array->bytes)
        return base_wrap(CADRE_ENOMEM, "%s", from->name);
    if ((status = take(from, array->bytes, array->nbytes, &got)) != CADRE_OK)
        return status;
    if (got < array->nbytes)
        return base_error(CADRE_ECORRUPT, "%s: its header promises %zu bytes, but %zu follow", from->name,
                          array->nbytes, got);
    if ((status = take(from, &beyond, 1, &got)) != CADRE_OK) /* also what makes zlib check length and CRC */
        return status;
    if (got)
        return base_error(CADRE_ECORRUPT, "%s: bytes follow behind the %zu that its header promises", from->name,
                          array->nbytes);
    return CADRE_OK;
}

static int read_source(source *from, data_idx_array *out)
{
    data_idx_array array = {0};
    from->unpacker.zalloc = unpacker_alloc;
    from->unpacker.zfree = unpacker_free;
    int status = refill(from);
    if (status != CADRE_OK)
        return status;
    from->gzip = from->unpacker.avail_in >= 2 && from->input[0] == 0x1f && from->input[1] == 0x8b;
    if (from->gzip && inflateInit2(&from->unpacker, 15 + 16) != Z_OK)
        return base_error(CADRE_ENOMEM, "%s: out of memory for unpacking", from->name);
    status = read_array(from, &array);
    if (from->gzip)
        inflateEnd(&from->unpacker);
    if (status == CADRE_OK)
        *out = array;
    else
        data_idx_array_free(&array);
    return status;
}

int data_idx_read_memory(const void *bytes, size_t nbytes, const char *name, data_idx_array *out)
{
    source from = {.name = name,
                   .size = nbytes,
                   .fd = -1,
                   .memory = nbytes ? bytes : (const unsigned char *)"",
                   .memory_left = nbytes};
    return read_source(&from, out);
}

int data_idx_read_file(const char *path, data_idx_array *out)
{
    source from = {.name = path, .fd = -1};
    struct stat info;
    int status = base_open(path, O_RDONLY | O_NONBLOCK, 0, &from.fd); /* so that a pipe of that name does not hang us */
    if (status != CADRE_OK)
        return status;
    if (fstat(from.fd, &info) != 0)
        status = base_errno(errno, "look at %s", path);
    else if (!S_ISREG(info.st_mode))
        status = base_error(CADRE_ECORRUPT, "%s: not a regular file", path);
    from.size = (uint64_t)info.st_size;
    if (status == CADRE_OK)
        status = read_source(&from, out);
    base_close(from.fd);
    return status;
}

void data_idx_array_free(data_idx_array *array)
{
    free(array->bytes);
    *array = (data_idx_array){0};
}
