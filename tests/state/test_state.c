#include "test_state.h"

#include "base/fault.h"
#include "base/io.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

static char folder[4096];

int test_enter_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/cadre-state-XXXXXX", base ? base : "/tmp");
    return !mkdtemp(folder) || chdir(folder) != 0;
}

int test_leave_folder(void **state)
{
    (void)state;
    base_fault_set(NULL);
    return chdir("/") != 0 || base_remove_tree(folder) != CADRE_OK;
}

int test_entries_of(const char *path)
{
    int count = 0;
    DIR *directory = opendir(path);
    if (!directory)
        return -1;
    for (struct dirent *entry; (entry = readdir(directory));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    return count;
}

unsigned char *test_slurp(const char *path, size_t *nbytes)
{
    base_buffer buffer = {0};
    assert_ok(base_read_file(path, 1 << 28, &buffer));
    *nbytes = buffer.length;
    return buffer.data;
}

void test_spit(const char *path, const void *bytes, size_t nbytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, nbytes, file), nbytes);
    assert_int_equal(fclose(file), 0);
}

bool test_mount_small(const char *path)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", "", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", path, "tmpfs", 0, "size=128k") == 0;
}

static int save_behind(void *user, void *buffer, size_t nbytes)
{
    memcpy(buffer, user, nbytes);
    return CADRE_OK;
}

static int load_behind(void *user, const void *buffer, size_t nbytes)
{
    memcpy(user, buffer, nbytes);
    return CADRE_OK;
}

static void add_all(test_program *p)
{
    static const int64_t two_three[] = {2, 3}, none[] = {3, 0, 4}, square[] = {2, 2}, big[] = {4, 8, 16};
    cadre_state *s = p->state;
    cadre_state_source source = {.save = save_behind, .load = load_behind, .user = p->behind};
    cadre_state_source own_source = {.save = save_behind, .load = load_behind, .user = p->own_behind};
    assert_ok(cadre_state_add_tensor(s, "u8", CADRE_STATE_U8, 1, (int64_t[]){5},
                                     p->u8)); /* the smallest first: the file sorts */
    assert_ok(cadre_state_add_tensor(s, "layer.0.weight", CADRE_STATE_F64, 2, two_three, p->f64));
    assert_ok(cadre_state_add_local(s, "own", p->own, sizeof p->own));
    assert_ok(cadre_state_add_tensor(s, "i64", CADRE_STATE_I64, 2, square, p->i64));
    assert_ok(cadre_state_add_tensor(s, "f32 \"quoted\" \xC3\xA9", CADRE_STATE_F32, 1, (int64_t[]){5}, p->f32));
    assert_ok(cadre_state_add_int64(s, "count", &p->count));
    assert_ok(cadre_state_add_tensor(s, "i32", CADRE_STATE_I32, 0, NULL, p->i32));
    assert_ok(cadre_state_add_tensor(s, "f16", CADRE_STATE_F16, 1, (int64_t[]){3}, p->f16));
    assert_ok(cadre_state_add_tensor(s, "bf16", CADRE_STATE_BF16, 2, (int64_t[]){7, 1}, p->bf16));
    assert_ok(cadre_state_add_tensor(s, "i16", CADRE_STATE_I16, 1, (int64_t[]){2}, p->i16));
    assert_ok(cadre_state_add_tensor(s, "i8", CADRE_STATE_I8, 3, (int64_t[]){1, 3, 1}, p->i8));
    assert_ok(cadre_state_add_double(s, "rate", &p->rate));
    assert_ok(cadre_state_add_tensor(s, "bool", CADRE_STATE_BOOL, 1, (int64_t[]){2}, p->boolean));
    assert_ok(cadre_state_add_tensor(s, "empty", CADRE_STATE_F32, 3, none, NULL));
    assert_ok(cadre_state_add_source(s, "behind", CADRE_STATE_F64, 3, big, &source));
    assert_ok(cadre_state_add_local_source(s, "own behind", sizeof p->own_behind, &own_source));
    assert_ok(cadre_state_add_double(s, "odd", &p->odd));
    assert_ok(cadre_state_add_local(s, "own nothing", NULL, 0));
}

void test_program_init(test_program *p, unsigned seed, int rank)
{
    unsigned char *bytes = (unsigned char *)p;
    for (size_t i = 0; i < sizeof *p; i++)
        bytes[i] = (unsigned char)(seed * 131 + i * 7 + (i >> 8) * 13);
    for (size_t i = 0; i < sizeof p->own; i++)
        p->own[i] = (uint8_t)(seed + 100 * (unsigned)rank + i);
    for (size_t i = 0; i < sizeof p->own_behind; i++)
        p->own_behind[i] = (uint8_t)(seed + 50 * (unsigned)rank + 3 * i);
    p->f64[0][0] = UINT64_C(0x7ff4dead0000beef); /* a signalling NaN with a payload */
    p->f64[0][1] = UINT64_C(0x8000000000000000); /* -0 */
    p->f32[0] = 0xffc12345;                      /* NaNs again */
    p->f16[0] = 0x7d01;
    p->bf16[0] = 0xff81;
    p->count = INT64_MIN + (int64_t)seed;
    p->rate = 0.1 + (double)seed;
    uint64_t odd = UINT64_C(0xfff8000000000123) + seed;
    memcpy(&p->odd, &odd, sizeof odd);
    assert_ok(cadre_state_new(&p->state));
    p->state->epoch = (int64_t)seed + 3;
    p->state->step = INT64_MAX - (int64_t)seed;
    add_all(p);
}

void test_program_free(test_program *p)
{
    cadre_state_free(p->state);
    p->state = NULL;
}

int test_program_equal(const test_program *a, const test_program *b)
{
#define SAME(member) (memcmp(&a->member, &b->member, sizeof a->member) == 0)
    return SAME(f64) && SAME(i64) && SAME(f32) && SAME(i32) && SAME(f16) && SAME(bf16) && SAME(i16) && SAME(i8) &&
           SAME(u8) && SAME(boolean) && SAME(behind) && SAME(count) && SAME(rate) && SAME(odd) && SAME(own) &&
           SAME(own_behind) && SAME(state->epoch) && SAME(state->step);
#undef SAME
}
