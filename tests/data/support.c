#include "support.h"

#include "base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

void assert_message(const char *text)
{
    if (!strstr(cadre_error_message(), text))
        fail_msg("\"%s\" is not in the message \"%s\"", text, cadre_error_message());
    assert_null(strchr(cadre_error_message(), '\n'));
}

int support_make_directory(void **state)
{
    const char *parent = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/cadre-data-XXXXXX", parent ? parent : "/tmp");
    *state = mkdtemp(path) ? strdup(path) : NULL;
    return *state ? 0 : -1;
}

int support_remove_directory(void **state)
{
    int status = base_remove_tree(*state);
    free(*state);
    return status;
}

base_buffer support_idx(int dims, const uint32_t *shape, unsigned salt)
{
    base_buffer made = {0};
    unsigned char magic[4] = {0, 0, 8, (unsigned char)dims};
    size_t total = 1;
    assert_ok(base_buffer_append(&made, magic, 4));
    for (int i = 0; i < dims; i++) {
        unsigned char extent[4] = {(unsigned char)(shape[i] >> 24), (unsigned char)(shape[i] >> 16),
                                   (unsigned char)(shape[i] >> 8), (unsigned char)shape[i]};
        assert_ok(base_buffer_append(&made, extent, 4));
        total *= shape[i];
    }
    for (size_t i = 0; i < total; i++) {
        unsigned char byte = (unsigned char)(dims == 1 ? i % 10 : i * 7 + salt);
        assert_ok(base_buffer_append(&made, &byte, 1));
    }
    return made;
}

base_buffer support_gzip(const base_buffer *plain)
{
    base_buffer packed = {0};
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_ok(base_buffer_reserve(&packed, deflateBound(&z, plain->length)));
    z.next_in = plain->data;
    z.avail_in = (uInt)plain->length;
    z.next_out = packed.data;
    z.avail_out = (uInt)packed.capacity;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    packed.length = z.total_out;
    deflateEnd(&z);
    return packed;
}

void support_write(const char *directory, const char *name, base_buffer bytes)
{
    char *path = base_path_join(directory, name);
    assert_ok(base_write_file(path, bytes.data, bytes.length));
    free(path);
    base_buffer_free(&bytes);
}

void support_write_pair(const char *directory, bool train, uint32_t count, uint32_t height, uint32_t width, bool gzip)
{
    base_buffer images = support_idx(3, (uint32_t[]){count, height, width}, 1);
    base_buffer labels = support_idx(1, &count, 0);
    if (gzip) {
        base_buffer plain[2] = {images, labels};
        images = support_gzip(&plain[0]);
        labels = support_gzip(&plain[1]);
        base_buffer_free(&plain[0]);
        base_buffer_free(&plain[1]);
    }
    char name[64];
    snprintf(name, sizeof name, "%s-images-idx3-ubyte%s", train ? "train" : "t10k", gzip ? ".gz" : "");
    support_write(directory, name, images);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte%s", train ? "train" : "t10k", gzip ? ".gz" : "");
    support_write(directory, name, labels);
}
