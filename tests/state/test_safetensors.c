#include "test_state.h"

#include <stdio.h>
#include <stdlib.h>

/* A file in memory: this header, then `data` zero bytes. */
static int parse(const char *header, size_t data, safetensors_index *index)
{
    size_t length = strlen(header), nbytes = 8 + length + data;
    unsigned char *file = calloc(1, nbytes); /* just as long: reading on is seen by the sanitizer */
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(file + 8, header, length);
    int status = safetensors_parse(file, nbytes, nbytes, index);
    free(file);
    return status;
}

static void foreign_files_are_read(void **state)
{
    (void)state;
    safetensors_index index = {0};
    assert_ok(parse("{\"b\":{\"shape\":[2],\"data_offsets\":[4,12],\"dtype\":\"F32\"},\n"
                    " \"__metadata__\":{\"format\":\"pt\",\"any\":\"\"},"
                    " \"a\":{\"dtype\":\"U16\",\"shape\":[2,1],\"data_offsets\":[0,4]},"
                    " \"none\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                    " \"\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[12,13]}}   ",
                    13, &index));
    assert_int_equal(index.count, 4);
    assert_int_equal(index.data_nbytes, 13);
    const safetensors_tensor *tensor = safetensors_find(&index, "a");
    assert_string_equal(tensor->dtype, "U16");
    assert_int_equal(tensor->dims, 2);
    assert_int_equal(tensor->end, 4);
    assert_int_equal(safetensors_find(&index, "b")->begin, 4);
    assert_int_equal(safetensors_find(&index, "")->dims, 0);
    assert_null(safetensors_find(&index, "c"));
    safetensors_index_free(&index);
    assert_ok(parse("{}", 0, &index));
    assert_null(safetensors_find(&index, "a"));
    safetensors_index_free(&index);
    safetensors_index_free(NULL);
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } cases[] = {
        {"", 0, "no JSON object"},
        {" {}", 0, "no JSON object"},
        {"[]", 0, "no JSON object"},
        {"{\"a\":", 0, "at byte"},
        {"{} {}", 0, "at byte"},
        {"{}", 1, "belong to no tensor"},
        {"{\"a\":1}", 0, "it wants dtype"},
        {"{\"a\":{}}", 0, "it wants dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":1}}", 1, "it wants dtype"},
        {"{\"a\":{\"dtype\":\"Q9\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "the type Q9"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, "no list"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "cannot be"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "cannot be"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "cannot be"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "cannot be"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "9 dimensions"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, "make 2 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "not inside"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "not inside"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "not inside"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "not inside"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":\"01\"}}", 1, "not inside"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "1 bytes at the end"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
         "\"data_offsets\":[1,3]}}",
         3, "overlaps"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
         "\"data_offsets\":[1,2]}}",
         2, "duplicate"},
        {"{\"__metadata__\":1}", 0, "__metadata__ is no object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "\"a\" is no string"},
    };
    safetensors_index index = {.count = 99};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = parse(cases[i].header, cases[i].data, &index);
        assert_true(status == CADRE_ECORRUPT || status == CADRE_ENOTSUP);
        assert_message_has(cases[i].message);
    }
    assert_int_equal(index.count, 99);
}

static void announced_lengths_are_checked(void **state)
{
    (void)state;
    unsigned char bytes[16] = {0};
    safetensors_index index;
    for (size_t nbytes = 0; nbytes < 8; nbytes++)
        assert_int_equal(safetensors_parse(bytes, nbytes, nbytes, &index), CADRE_ECORRUPT);
    bytes[0] = 9; /* one more than there is */
    assert_int_equal(safetensors_parse(bytes, 16, 16, &index), CADRE_ECORRUPT);
    memset(bytes, 0xFF, 8);
    assert_int_equal(safetensors_parse(bytes, 16, 16, &index), CADRE_ECORRUPT);
    uint64_t over = SAFETENSORS_HEADER_LIMIT + 1;
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(over >> 8 * i);
    assert_int_equal(safetensors_parse(bytes, 16, UINT64_C(1) << 40, &index), CADRE_ECORRUPT);
    assert_message_has("the limit is");
    bytes[0] = 0x10, memset(bytes + 1, 0, 7); /* the file is long enough, what is given is not */
    assert_int_equal(safetensors_parse(bytes, 16, 100, &index), CADRE_ECORRUPT);
}

static void headers_are_padded_and_in_order(void **state)
{
    (void)state;
    static const char *const metadata[] = {"format", "pt", NULL};
    for (int length = 1; length <= 9; length++) {
        char name[16] = {0};
        memset(name, 'x', (size_t)length);
        safetensors_tensor tensors[] = {{.name = name, .dtype = "F32", .dims = 1, .shape = {2}, .begin = 0, .end = 8},
                                        {.name = "b", .dtype = "U8", .dims = 0, .begin = 8, .end = 9}};
        base_buffer out = {0};
        assert_ok(safetensors_header(tensors, 2, metadata, &out));
        assert_int_equal(out.length % 8, 0);
        safetensors_index index;
        assert_ok(safetensors_parse(out.data, out.length, out.length + 9, &index));
        assert_int_equal(index.data_offset, out.length);
        assert_int_equal(safetensors_find(&index, name)->shape[0], 2);
        safetensors_index_free(&index);
        tensors[1].begin = 7;
        assert_int_equal(safetensors_header(tensors, 2, metadata, &out), CADRE_EINVAL);
        base_buffer_free(&out);
    }
}

/* Whatever byte is changed: refused, or an index that stays inside the file. */
static void changed_headers_do_no_harm(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[24,28]}}";
    enum { LENGTH = sizeof header - 1, NBYTES = 8 + LENGTH + 28 };
    for (size_t at = 0; at < 8 + LENGTH; at++)
        for (int change = 1; change < 256; change++) {
            unsigned char *file = calloc(1, NBYTES);
            assert_non_null(file);
            file[0] = LENGTH;
            memcpy(file + 8, header, LENGTH);
            file[at] ^= (unsigned char)change;
            safetensors_index index;
            if (safetensors_parse(file, NBYTES, NBYTES, &index) == CADRE_OK) {
                uint64_t covered = 0;
                for (size_t i = 0; i < index.count; i++) {
                    assert_true(index.tensors[i].end <= 28);
                    covered += index.tensors[i].end - index.tensors[i].begin;
                }
                assert_int_equal(covered, 28);
                safetensors_index_free(&index);
            }
            free(file);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_files_are_read),        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(announced_lengths_are_checked), cmocka_unit_test(headers_are_padded_and_in_order),
        cmocka_unit_test(changed_headers_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
