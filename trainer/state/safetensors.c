#include "safetensors.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "text.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of one element; 0: not known. */
static uint64_t element_nbytes(const char *dtype)
{
    static const struct {
        const char *name;
        uint64_t nbytes;
    } known[] = {
        {"F64", 8},  {"F32", 4}, {"F16", 2},     {"BF16", 2},    {"I64", 8},     {"I32", 4},
        {"I16", 2},  {"I8", 1},  {"U8", 1},      {"U16", 2},     {"U32", 4},     {"U64", 8},
        {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, dtype) == 0)
            return known[i].nbytes;
    return 0;
}

static json_t *tensor_to_json(const safetensors_tensor *tensor)
{
    json_t *shape = json_array();
    for (int i = 0; shape && i < tensor->dims; i++)
        if (json_array_append_new(shape, json_integer(tensor->shape[i])) != 0) {
            json_decref(shape);
            shape = NULL;
        }
    return shape ? json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets",
                             (json_int_t)tensor->begin, (json_int_t)tensor->end)
                 : NULL;
}

static json_t *header_to_json(const safetensors_tensor *tensors, size_t count, const char *const *metadata)
{
    json_t *root = json_object();
    bool whole = root != NULL;
    if (whole && metadata && *metadata) {
        json_t *strings = json_object();
        whole = json_object_set_new(root, "__metadata__", strings) == 0; /* root's now, or gone */
        for (; whole && *metadata; metadata += 2)
            whole = json_object_set_new(strings, metadata[0], json_string(metadata[1])) == 0;
    }
    for (size_t i = 0; whole && i < count; i++)
        whole = json_object_set_new(root, tensors[i].name, tensor_to_json(&tensors[i])) == 0;
    if (whole)
        return root;
    json_decref(root);
    base_error(CADRE_ENOMEM, "out of memory for a safetensors header");
    return NULL;
}

int safetensors_header(const safetensors_tensor *tensors, size_t count, const char *const *metadata, base_buffer *out)
{
    static const char blanks[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
    for (size_t i = 0; i < count; i++)
        if (tensors[i].begin != (i ? tensors[i - 1].end : 0) || tensors[i].end < tensors[i].begin)
            return base_error(CADRE_EINVAL, "tensor \"%s\" does not follow the one before it", tensors[i].name);
    json_t *root = header_to_json(tensors, count, metadata);
    size_t start = out->length;
    int status = root ? base_buffer_append(out, blanks, 8) : CADRE_ENOMEM; /* the length's place */
    if (status == CADRE_OK)
        status = state_json_print(root, JSON_COMPACT, out);
    json_decref(root);
    if (status == CADRE_OK)
        status = base_buffer_append(out, blanks, (0 - (out->length - start)) % 8);
    uint64_t length = out->length - start - 8;
    if (status == CADRE_OK && length > SAFETENSORS_HEADER_LIMIT)
        status = base_error(CADRE_EINVAL, "the header of %zu tensors takes %llu bytes, over the limit of %d", count,
                            (unsigned long long)length, SAFETENSORS_HEADER_LIMIT);
    for (int i = 0; status == CADRE_OK && i < 8; i++)
        out->data[start + (size_t)i] = (unsigned char)(length >> 8 * i);
    if (status != CADRE_OK)
        out->length = start;
    return status;
}

static int header_length(const unsigned char *bytes, uint64_t file_nbytes, uint64_t *out)
{
    uint64_t length = 0;
    if (file_nbytes < 8)
        return base_error(CADRE_ECORRUPT, "%llu bytes are no safetensors file", (unsigned long long)file_nbytes);
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)bytes[i] << 8 * i;
    if (length > file_nbytes - 8 || length > SAFETENSORS_HEADER_LIMIT)
        return base_error(CADRE_ECORRUPT, "a header of %llu bytes is announced in a file of %llu (the limit is %d)",
                          (unsigned long long)length, (unsigned long long)file_nbytes, SAFETENSORS_HEADER_LIMIT);
    *out = length;
    return CADRE_OK;
}

static bool read_unsigned(const json_t *json, uint64_t *out)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return false;
    *out = (uint64_t)json_integer_value(json);
    return true;
}

/* Shape and size: their product must be just the bytes between the offsets. */
static int parse_shape(const json_t *shape, uint64_t element, safetensors_tensor *tensor)
{
    if (!json_is_array(shape))
        return base_error(CADRE_ECORRUPT, "tensor \"%s\": the shape is no list", tensor->name);
    size_t dims = json_array_size(shape);
    if (dims > CADRE_STATE_MAX_DIMS)
        return base_error(CADRE_ENOTSUP, "tensor \"%s\" has %zu dimensions, %d is the most", tensor->name, dims,
                          CADRE_STATE_MAX_DIMS);
    tensor->dims = (int)dims;
    uint64_t nbytes = element;
    for (size_t i = 0; i < dims; i++) {
        uint64_t extent;
        if (!read_unsigned(json_array_get(shape, i), &extent) || __builtin_mul_overflow(nbytes, extent, &nbytes))
            return base_error(CADRE_ECORRUPT, "tensor \"%s\": the shape cannot be", tensor->name);
        tensor->shape[i] = (int64_t)extent;
    }
    if (nbytes != tensor->end - tensor->begin)
        return base_error(CADRE_ECORRUPT, "tensor \"%s\": shape and type make %llu bytes, the offsets %llu",
                          tensor->name, (unsigned long long)nbytes, (unsigned long long)(tensor->end - tensor->begin));
    return CADRE_OK;
}

static int parse_tensor(const char *name, const json_t *json, uint64_t data_nbytes, safetensors_tensor *tensor)
{
    const json_t *offsets = json_object_get(json, "data_offsets");
    *tensor = (safetensors_tensor){.name = name, .dtype = json_string_value(json_object_get(json, "dtype"))};
    if (!tensor->dtype || json_object_size(json) != 3)
        return base_error(CADRE_ECORRUPT, "tensor \"%s\": it wants dtype, shape and data_offsets", name);
    uint64_t element = element_nbytes(tensor->dtype);
    if (element == 0)
        return base_error(CADRE_ENOTSUP, "tensor \"%s\": the type %s is not known", name, tensor->dtype);
    if (json_array_size(offsets) != 2 || !read_unsigned(json_array_get(offsets, 0), &tensor->begin) ||
        !read_unsigned(json_array_get(offsets, 1), &tensor->end) || tensor->begin > tensor->end ||
        tensor->end > data_nbytes)
        return base_error(CADRE_ECORRUPT, "tensor \"%s\": its offsets are not inside the file", name);
    return parse_shape(json_object_get(json, "shape"), element, tensor);
}

static int check_metadata(const json_t *json)
{
    const char *key;
    json_t *value;
    if (!json_is_object(json))
        return base_error(CADRE_ECORRUPT, "__metadata__ is no object");
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        if (!json_is_string(value))
            return base_error(CADRE_ECORRUPT, "__metadata__: \"%s\" is no string", key);
    }
    return CADRE_OK;
}

static int by_place(const void *left, const void *right)
{
    const safetensors_tensor *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return (a->end > b->end) - (a->end < b->end);
}

static int by_name(const void *left, const void *right)
{
    const safetensors_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* Tensors must cover the data from its first byte to its last, none twice. */
static int check_cover(safetensors_index *index)
{
    uint64_t covered = 0;
    qsort(index->tensors, index->count, sizeof *index->tensors, by_place);
    for (size_t i = 0; i < index->count; i++) {
        if (index->tensors[i].begin != covered)
            return base_error(CADRE_ECORRUPT, "tensor \"%s\" %s", index->tensors[i].name,
                              index->tensors[i].begin < covered ? "overlaps another" : "leaves a gap before it");
        covered = index->tensors[i].end;
    }
    if (covered != index->data_nbytes)
        return base_error(CADRE_ECORRUPT, "%llu bytes at the end belong to no tensor",
                          (unsigned long long)(index->data_nbytes - covered));
    qsort(index->tensors, index->count, sizeof *index->tensors, by_name);
    return CADRE_OK;
}

static int index_tensors(json_t *root, safetensors_index *index)
{
    const char *name;
    json_t *value;
    index->tensors = base_calloc(json_object_size(root), sizeof *index->tensors);
    if (!index->tensors)
        return CADRE_ENOMEM;
    json_object_foreach(root, name, value)
    {
        bool metadata = strcmp(name, "__metadata__") == 0;
        int status = metadata ? check_metadata(value)
                              : parse_tensor(name, value, index->data_nbytes, &index->tensors[index->count]);
        if (status != CADRE_OK)
            return status;
        index->count += !metadata;
    }
    return check_cover(index);
}

int safetensors_parse(const void *bytes, size_t nbytes, uint64_t file_nbytes, safetensors_index *out)
{
    uint64_t length;
    int status = header_length(bytes, nbytes < 8 ? nbytes : file_nbytes, &length);
    if (status != CADRE_OK)
        return status;
    if (length > nbytes - 8)
        return base_error(CADRE_ECORRUPT, "the header ends too early");
    const char *text = (const char *)bytes + 8;
    if (length == 0 || text[0] != '{')
        return base_error(CADRE_ECORRUPT, "the header is no JSON object");
    json_error_t where;
    json_t *root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!root && state_json_no_memory(&where))
        return base_error(CADRE_ENOMEM, "out of memory for a safetensors header");
    if (!root)
        return base_error(CADRE_ECORRUPT, "the header, at byte %d: %s", where.position, where.text);
    safetensors_index index = {.data_offset = 8 + length, .data_nbytes = file_nbytes - 8 - length, .json = root};
    status = index_tensors(root, &index);
    if (status != CADRE_OK) {
        safetensors_index_free(&index);
        return status;
    }
    *out = index;
    return CADRE_OK;
}

int safetensors_read(int fd, const char *path, safetensors_index *out)
{
    struct stat info;
    unsigned char first[8];
    if (fstat(fd, &info) != 0 || lseek(fd, 0, SEEK_SET) < 0)
        return base_errno(errno, "read %s", path);
    uint64_t file_nbytes = (uint64_t)info.st_size, length;
    int status = file_nbytes < 8 ? CADRE_OK : base_read_all(fd, first, 8, path);
    if (status != CADRE_OK)
        return status;
    status = header_length(first, file_nbytes, &length);
    if (status != CADRE_OK)
        return base_wrap(status, "%s", path);
    unsigned char *bytes = base_malloc(8 + (size_t)length);
    if (!bytes)
        return CADRE_ENOMEM;
    memcpy(bytes, first, 8);
    status = base_read_all(fd, bytes + 8, (size_t)length, path);
    if (status == CADRE_OK) {
        status = safetensors_parse(bytes, 8 + (size_t)length, file_nbytes, out);
        if (status != CADRE_OK)
            base_wrap(status, "%s", path);
    }
    free(bytes);
    return status;
}

void safetensors_index_free(safetensors_index *index)
{
    if (!index)
        return;
    free(index->tensors);
    json_decref(index->json);
    *index = (safetensors_index){0};
}

const safetensors_tensor *safetensors_find(const safetensors_index *index, const char *name)
{
    safetensors_tensor key = {.name = name};
    return index->count ? bsearch(&key, index->tensors, index->count, sizeof key, by_name) : NULL;
}
