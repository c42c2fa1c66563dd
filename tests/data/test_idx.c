/* Reading IDX: what is well formed in all its forms, what is hostile, and the real Fashion-MNIST where it is installed.
 */
#include "support.h"

#include "base/fault.h"
#include "base/io.h"
#include "trainer/data/idx_read.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FASHION "/usr/share/datasets/fashion-mnist"

static void refuse(const base_buffer *bytes, const char *fault)
{
    data_idx_array array = {.dims = 77};
    assert_status(data_idx_read_memory(bytes->data, bytes->length, "the/file", &array), CADRE_ECORRUPT);
    assert_message("the/file: ");
    assert_message(fault);
    assert_int_equal(array.dims, 77);
}

static void refuse_bytes(const char *bytes, size_t nbytes, const char *fault)
{
    base_buffer buffer = {.data = (unsigned char *)(uintptr_t)bytes, .length = nbytes};
    refuse(&buffer, fault);
}
#define REFUSE(text, fault) refuse_bytes(text, sizeof text - 1, fault)

static void test_well_formed(void **state)
{
    (void)state;
    const uint32_t shape[] = {3, 2, 5, 4};
    for (int dims = 1; dims <= 4; dims++)
        for (int gzip = 0; gzip < 2; gzip++) {
            base_buffer plain = support_idx(dims, shape, 9);
            base_buffer packed = support_gzip(&plain);
            const base_buffer *bytes = gzip ? &packed : &plain;
            data_idx_array array;
            assert_ok(data_idx_read_memory(bytes->data, bytes->length, "x", &array));
            assert_int_equal(array.dims, dims);
            size_t header = 4 + 4 * (size_t)dims;
            assert_int_equal(array.nbytes, plain.length - header);
            assert_memory_equal(array.bytes, plain.data + header, array.nbytes);
            for (int i = 0; i < dims; i++)
                assert_int_equal(array.shape[i], shape[i]);
            data_idx_array_free(&array);
            base_buffer_free(&plain);
            base_buffer_free(&packed);
        }
}

static void test_headers(void **state)
{
    (void)state;
    refuse_bytes(NULL, 0, "no IDX file");
    REFUSE("\0\0\x08", "no IDX file");
    REFUSE("<!DOCTYPE html><html>404</html>", "no IDX file");
    REFUSE("\x89PNG\r\n\x1a\n", "no IDX file");
    REFUSE("\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "type 0x0d");
    REFUSE("\0\0\x08\0", "0 dimensions");
    REFUSE("\0\0\x08\x05\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0", "5 dimensions");
    REFUSE("\0\0\x08\xff", "255 dimensions");
    REFUSE("\0\0\x08\x02\0\0\0\x01\0\0", "within its header");
    REFUSE("\0\0\x08\x01\0\0\0\0", "dimension 0 is 0");
    REFUSE("\0\0\x08\x02\0\0\0\x01\xff\xff\xff\xff", "dimension 1 is 4294967295");
    REFUSE("\0\0\x08\x03\x7f\xff\xff\xff\x7f\xff\xff\xff\x7f\xff\xff\xff", "its dimensions make more than");
    REFUSE("\0\0\x08\x04\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0", "its dimensions make more than"); /* 2^64: would wrap to 0 */
    REFUSE("\0\0\x08\x01\x40\0\0\0\x01", "promises 1073741824 bytes, but 1 follow");
    REFUSE("\0\0\x08\x01\0\0\0\x02\x01", "promises 2 bytes, but 1 follow");
    REFUSE("\0\0\x08\x01\0\0\0\x01\x01\x02", "promises 1 bytes, but 2 follow");
}

/* Every damage to a small gzip file: cut anywhere, any byte changed, something behind it. */
static void test_gzip_damage(void **state)
{
    (void)state;
    base_buffer plain = support_idx(3, (uint32_t[]){4, 3, 3}, 5);
    base_buffer packed = support_gzip(&plain);
    data_idx_array array;
    for (size_t length = 0; length < packed.length; length++) {
        base_buffer cut = {.data = packed.data, .length = length};
        refuse(&cut, length < 2 ? "no IDX file" : "gzip data ends too early");
    }
    for (size_t at = 10; at < packed.length;
         at++) { /* behind the gzip header, whose time and system byte mean nothing */
        packed.data[at] ^= 0x11;
        assert_status(data_idx_read_memory(packed.data, packed.length, "x", &array), CADRE_ECORRUPT);
        packed.data[at] ^= 0x11;
    }
    packed.data[packed.length - 5] ^= 1;
    refuse(&packed, "incorrect data check");
    packed.data[packed.length - 5] ^= 1;
    packed.data[packed.length - 1] ^= 1;
    refuse(&packed, "incorrect length check");
    packed.data[packed.length - 1] ^= 1;
    assert_ok(base_buffer_append(&packed, "x", 1));
    refuse(&packed, "gzip data");
    base_buffer_free(&packed);
    base_buffer_free(&plain);
}

static void test_gzip_sizes(void **state)
{
    (void)state;
    base_buffer plain = support_idx(1, &(uint32_t){1000}, 0);
    base_buffer first = {.data = plain.data, .length = 300};
    base_buffer second = {.data = plain.data + 300, .length = plain.length - 300};
    base_buffer members = support_gzip(&first); /* a file of two members, as from cat a.gz b.gz */
    base_buffer behind = support_gzip(&second);
    data_idx_array array;
    assert_ok(base_buffer_append(&members, behind.data, behind.length));
    assert_ok(data_idx_read_memory(members.data, members.length, "x", &array));
    assert_memory_equal(array.bytes, plain.data + 8, 1000);
    data_idx_array_free(&array);
    base_buffer_free(&members);
    base_buffer_free(&behind);

    plain.data[7]++; /* one more than there are; of 1000 */
    base_buffer packed = support_gzip(&plain);
    refuse(&packed, "promises 1001 bytes, but 1000 follow");
    base_buffer_free(&packed);
    plain.data[7] -= 2;
    packed = support_gzip(&plain);
    refuse(&packed, "bytes follow behind the 999");
    base_buffer_free(&packed);
    plain.data[4] = 0x40; /* a GiB from a few hundred bytes: refused before it is allocated */
    packed = support_gzip(&plain);
    refuse(&packed, "bytes of gzip can hold");
    base_buffer_free(&packed);
    base_buffer_free(&plain);
}

static void test_names(void **state)
{
    static const char *const forms[] = {"-idx3-ubyte", "-idx3-ubyte.gz", ".idx3-ubyte", ".idx3-ubyte.gz",
                                        "-idx4-ubyte"};
    const char *directory = *state;
    char name[64];
    char path[600];
    cadre_idx *idx;
    support_write(directory, "t10k-labels.idx1-ubyte", support_idx(1, &(uint32_t){6}, 0));
    assert_status(cadre_idx_open(directory, false, &idx), CADRE_ENOENT);
    assert_message("t10k-images-idx3-ubyte");
    assert_message(directory);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        base_buffer bytes = support_idx(i == 4 ? 4 : 3, (uint32_t[]){6, 3, 2, 5}, 0);
        snprintf(name, sizeof name, "t10k-images%s", forms[i]);
        support_write(directory, name, i % 2 ? support_gzip(&bytes) : bytes);
        if (i % 2)
            base_buffer_free(&bytes);
        assert_ok(cadre_idx_open(directory, false, &idx));
        assert_int_equal(cadre_idx_count(idx), 6);
        assert_int_equal(cadre_idx_classes(idx), 6);
        cadre_dataset dataset;
        assert_ok(cadre_idx_dataset(idx, 0, 1, &dataset));
        assert_int_equal(dataset.channels, i == 4 ? 3 : 1);
        assert_int_equal(dataset.height, i == 4 ? 2 : 3);
        assert_int_equal(dataset.width, i == 4 ? 5 : 2);
        cadre_idx_free(idx);
        snprintf(path, sizeof path, "%s/%s", directory, name);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_pairs(void **state)
{
    const char *directory = *state;
    cadre_idx *idx = NULL;
    assert_status(cadre_idx_open(NULL, true, &idx), CADRE_EINVAL);
    assert_status(cadre_idx_open("/nowhere at all", true, &idx), CADRE_ENOENT);
    support_write(directory, "train-images-idx3-ubyte", support_idx(3, (uint32_t[]){5, 2, 2}, 0));
    assert_status(cadre_idx_open(directory, true, &idx), CADRE_ENOENT);
    assert_message("train-labels-idx1-ubyte");
    support_write(directory, "train-labels-idx1-ubyte", support_idx(1, &(uint32_t){4}, 0));
    assert_status(cadre_idx_open(directory, true, &idx), CADRE_ECORRUPT);
    assert_message("has 5 images");
    assert_message("4 labels");
    support_write(directory, "train-labels-idx1-ubyte", support_idx(3, (uint32_t[]){5, 2, 2}, 0));
    assert_status(cadre_idx_open(directory, true, &idx), CADRE_ECORRUPT);
    assert_message("labels have 1");
    support_write(directory, "train-images-idx3-ubyte", support_idx(1, &(uint32_t){5}, 0));
    assert_status(cadre_idx_open(directory, true, &idx), CADRE_ECORRUPT);
    assert_message("images have 3 or 4");
    char path[600];
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", directory);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_status(cadre_idx_open(directory, true, &idx), CADRE_ECORRUPT); /* and does not wait for a writer */
    assert_message("not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_null(idx);
    cadre_idx_free(NULL);
}

static void test_values(void **state)
{
    const char *directory = *state;
    support_write_pair(directory, true, 12, 4, 5, true);
    cadre_idx *idx;
    cadre_dataset raw, normal, again;
    float values[20];
    int64_t label;
    assert_ok(cadre_idx_open(directory, true, &idx));
    assert_int_equal(cadre_idx_classes(idx), 10);
    assert_ok(cadre_idx_dataset(idx, 0.0f, 1.0f, &raw));
    assert_ok(cadre_idx_dataset(idx, 0.2860f, 0.3530f, &normal));
    assert_ok(cadre_idx_dataset(idx, 0.2860f, 0.3530f, &again));
    assert_ptr_equal(normal.user, again.user);
    assert_int_equal(raw.count(raw.user), 12);
    for (int64_t sample = 0; sample < 12; sample++)
        for (int which = 0; which < 2; which++) {
            cadre_dataset *dataset = which ? &normal : &raw;
            assert_ok(dataset->get(dataset->user, sample, values, &label));
            assert_int_equal(label, sample % 10);
            for (int i = 0; i < 20; i++) {
                unsigned char byte = (unsigned char)((sample * 20 + i) * 7 + 1);
                float expected = ((float)byte / 255.0f - (which ? 0.2860f : 0.0f)) / (which ? 0.3530f : 1.0f);
                assert_true(values[i] == expected);
            }
        }
    assert_status(raw.get(raw.user, 12, values, &label), CADRE_EINVAL);
    assert_status(raw.get(raw.user, -1, values, &label), CADRE_EINVAL);
    assert_status(cadre_idx_dataset(idx, 0, 0, &again), CADRE_EINVAL);
    assert_status(cadre_idx_dataset(idx, 0, -1, &again), CADRE_EINVAL);
    assert_status(cadre_idx_dataset(idx, NAN, 1, &again), CADRE_EINVAL);
    assert_status(cadre_idx_dataset(NULL, 0, 1, &again), CADRE_EINVAL);
    cadre_idx_free(idx);
}

/* Each allocation and each read fails once; then it works. */
static void test_faults(void **state)
{
    const char *directory = *state;
    static const char *const points[] = {"alloc", "read", "open"};
    for (int gzip = 0; gzip < 2; gzip++)
        for (size_t p = 0; p < 3; p++) {
            support_write_pair(directory, gzip, 12, 4, 5, gzip);
            int status = CADRE_EIO;
            int failures = 0;
            for (int n = 1; status != CADRE_OK; n++) {
                char fault[32];
                cadre_idx *idx = NULL;
                cadre_dataset dataset;
                snprintf(fault, sizeof fault, "%s:%d", points[p], n);
                base_fault_set(fault);
                status = cadre_idx_open(directory, gzip, &idx);
                if (status == CADRE_OK)
                    status = cadre_idx_dataset(idx, 0, 1, &dataset);
                base_fault_set(NULL);
                assert_true(status == CADRE_OK || status == (p == 0 ? CADRE_ENOMEM : CADRE_EIO));
                failures += status != CADRE_OK;
                assert_true(n < 100);
                cadre_idx_free(idx);
            }
            assert_true(failures >= 2);
        }
}

static void test_fashion_mnist(void **state)
{
    (void)state;
    if (!base_exists(FASHION "/train-images-idx3-ubyte.gz"))
        skip();
    static const char *const names[] = {"10,000 test", "60,000 training"};
    for (int train = 0; train < 2; train++) {
        cadre_idx *idx;
        cadre_dataset dataset;
        assert_ok(cadre_idx_open(FASHION, train, &idx));
        assert_int_equal(cadre_idx_count(idx), train ? 60000 : 10000);
        assert_int_equal(cadre_idx_classes(idx), 10);
        assert_ok(cadre_idx_dataset(idx, 0, 1, &dataset));
        assert_int_equal(dataset.channels * dataset.height * dataset.width, 784);
        double sum = 0;
        double squares = 0;
        int64_t of_class[10] = {0};
        for (int64_t i = 0; i < cadre_idx_count(idx); i++) {
            float values[784];
            int64_t label;
            assert_ok(dataset.get(dataset.user, i, values, &label));
            of_class[label]++;
            for (int j = 0; j < 784; j++) {
                sum += (double)values[j];
                squares += (double)values[j] * (double)values[j];
            }
        }
        double n = 784.0 * (double)cadre_idx_count(idx);
        print_message("%s images: mean %.4f std %.4f\n", names[train], sum / n,
                      sqrt(squares / n - sum / n * (sum / n)));
        if (train) {
            assert_true(fabs(sum / n - 0.2860) < 5e-5);
            assert_true(fabs(sqrt(squares / n - sum / n * (sum / n)) - 0.3530) < 5e-5);
        }
        for (int c = 0; c < 10; c++)
            assert_int_equal(of_class[c], cadre_idx_count(idx) / 10);
        cadre_idx_free(idx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_gzip_damage),
        cmocka_unit_test(test_gzip_sizes),
        cmocka_unit_test_setup_teardown(test_names, support_make_directory, support_remove_directory),
        cmocka_unit_test_setup_teardown(test_pairs, support_make_directory, support_remove_directory),
        cmocka_unit_test_setup_teardown(test_values, support_make_directory, support_remove_directory),
        cmocka_unit_test_setup_teardown(test_faults, support_make_directory, support_remove_directory),
        cmocka_unit_test(test_fashion_mnist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
