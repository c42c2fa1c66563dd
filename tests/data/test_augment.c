/* Augmentation: each step against a plain reimplementation, with the drawn numbers found by trying all. */
#include "support.h"

#include <math.h>
#include <string.h>

enum { C = 2, H = 5, W = 7, N = C * H * W, KEYS = 3000 };

static void fresh(float *image)
{
    for (int i = 0; i < N; i++)
        image[i] = (float)(i + 1);
}

static void apply(const cadre_augment *augment, int64_t index, float *image)
{
    float scratch[N];
    fresh(image);
    cadre_augment_apply(augment, 9, 2, index, image, scratch, C, H, W);
}

static float shifted(const float *from, int c, int y, int x, float fill)
{
    return y < 0 || y >= H || x < 0 || x >= W ? fill : from[(c * H + y) * W + x];
}

static bool is_shift_by(const float *image, int down, int right, float fill)
{
    float from[N];
    fresh(from);
    for (int c = 0; c < C; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                if (image[(c * H + y) * W + x] != shifted(from, c, y + down, x + right, fill))
                    return false;
    return true;
}

/* Every offset in [-most, most]^2 is drawn about equally often, and nothing else. */
static void check_shifts(const cadre_augment *augment, int most, float fill)
{
    int times[9][9] = {{0}};
    float image[N];
    for (int64_t key = 0; key < KEYS; key++) {
        apply(augment, key, image);
        bool found = false;
        for (int down = -most; down <= most && !found; down++)
            for (int right = -most; right <= most && !found; right++)
                if (is_shift_by(image, down, right, fill)) {
                    times[down + most][right + most]++;
                    found = true;
                }
        assert_true(found);
    }
    int kinds = (2 * most + 1) * (2 * most + 1);
    for (int down = 0; down <= 2 * most; down++)
        for (int right = 0; right <= 2 * most; right++)
            assert_in_range(times[down][right], KEYS / kinds / 2, 2 * KEYS / kinds);
}

static void test_crop_and_shift(void **state)
{
    (void)state;
    for (int most = 1; most <= 4; most++) {
        check_shifts(&(cadre_augment){.crop_padding = most, .fill = -3}, most, 0.0f);
        check_shifts(&(cadre_augment){.shift = most, .fill = -3}, most, -3.0f);
    }
    float image[N];
    int emptied = 0;
    for (int64_t key = 0; key < 100; key++) { /* far outside: nothing is left, and nothing breaks */
        apply(&(cadre_augment){.crop_padding = INT32_MAX, .shift = 100, .fill = 4}, key, image);
        bool all = true;
        for (int i = 0; i < N; i++)
            all = all && (image[i] == 0.0f || image[i] == 4.0f);
        emptied += all;
    }
    assert_in_range(emptied, 95, 100);
}

static void test_flip(void **state)
{
    (void)state;
    int flipped = 0;
    float image[N], from[N];
    fresh(from);
    for (int64_t key = 0; key < KEYS; key++) {
        apply(&(cadre_augment){.flip = true}, key, image);
        bool now = image[0] != from[0];
        for (int i = 0; i < N; i++)
            assert_true(image[i] == (now ? from[i / W * W + W - 1 - i % W] : from[i]));
        flipped += now;
    }
    assert_in_range(flipped, KEYS * 45 / 100, KEYS * 55 / 100);
}

static void test_erase(void **state)
{
    (void)state;
    enum { SIDE = 3 };
    float image[N], from[N];
    int corner = 0;
    fresh(from);
    for (int64_t key = 0; key < KEYS; key++) {
        apply(&(cadre_augment){.erase = SIDE, .fill = 8}, key, image);
        bool found = false;
        for (int my = 0; my < H && !found; my++)
            for (int mx = 0; mx < W && !found; mx++) {
                found = true;
                for (int i = 0; i < N && found; i++) {
                    int y = i / W % H - my, x = i % W - mx;
                    bool hole = y >= -1 && y <= 1 && x >= -1 && x <= 1;
                    found = image[i] == (hole ? 0.0f : from[i]);
                }
                corner += found && my == 0 && mx == 0;
            }
        assert_true(found);
    }
    assert_in_range(corner, KEYS / (H * W) / 2, KEYS / (H * W) * 2);
    apply(&(cadre_augment){.erase = INT32_MAX}, 1, image);
    for (int i = 0; i < N; i++)
        assert_true(image[i] == 0.0f);
}

/* Turning about the centre: a linear ramp stays linear inside, and the angle read off it is uniform up to the limit. */
static void test_rotate(void **state)
{
    (void)state;
    enum { SIDE = 15, MIDDLE = SIDE * SIDE / 2 };
    float image[SIDE * SIDE], scratch[SIDE * SIDE];
    double least = 90, most = -90;
    for (int64_t key = 0; key < 500; key++) {
        for (int i = 0; i < SIDE * SIDE; i++)
            image[i] = (float)(i % SIDE);
        cadre_augment_apply(&(cadre_augment){.rotate = 30, .fill = -50}, 1, 0, key, image, scratch, 1, SIDE, SIDE);
        assert_true(fabsf(image[MIDDLE] - SIDE / 2) < 1e-4f);
        float dx = image[MIDDLE + 1] - image[MIDDLE];
        float dy = image[MIDDLE + SIDE] - image[MIDDLE];
        assert_true(fabsf(dx * dx + dy * dy - 1) < 1e-4f);
        for (int y = -4; y <= 4; y++)
            for (int x = -4; x <= 4; x++)
                assert_true(fabsf(image[MIDDLE + y * SIDE + x] - (SIDE / 2 + (float)x * dx + (float)y * dy)) < 1e-4f);
        double degrees = atan2((double)dy, (double)dx) * 57.29577951308232;
        least = fmin(least, degrees);
        most = fmax(most, degrees);
        if (fabs(degrees) > 10)
            assert_true(image[0] < 0); /* the corner comes from outside */
    }
    assert_true(least >= -30.001 && least < -28 && most <= 30.001 && most > 28);
    for (int i = 0; i < SIDE * SIDE; i++)
        image[i] = 1.0f;
    cadre_augment_apply(&(cadre_augment){.rotate = INFINITY}, 1, 0, 0, image, scratch, 1, SIDE, SIDE);
}

static void test_noise(void **state)
{
    (void)state;
    double sum = 0, squares = 0, fourth = 0, neighbours = 0;
    double n = (double)KEYS * N;
    for (int64_t key = 0; key < KEYS; key++) {
        float image[N], from[N];
        fresh(from);
        apply(&(cadre_augment){.noise = 0.5}, key, image);
        double before = 0;
        for (int i = 0; i < N; i++) {
            double z = ((double)image[i] - (double)from[i]) / 0.5;
            sum += z;
            squares += z * z;
            fourth += z * z * z * z;
            neighbours += z * before;
            before = z;
        }
    }
    assert_true(fabs(sum / n) < 0.01);
    assert_true(fabs(squares / n - 1) < 0.015);
    assert_true(fabs(fourth / n - 3) < 0.12);
    assert_true(fabs(neighbours / n) < 0.01);
    float odd[3] = {0}, scratch[3];
    cadre_augment_apply(&(cadre_augment){.noise = 1}, 1, 1, 1, odd, scratch, 1, 1, 3);
    assert_true(odd[2] != 0.0f);
}

/* A function of the key alone; each part of the key counts; and one step's draws do not hang on another's. */
static void test_keys(void **state)
{
    (void)state;
    const cadre_augment all = {
        .crop_padding = 2, .flip = true, .shift = 1, .rotate = 10, .erase = 2, .noise = 0.1, .fill = -1};
    float first[N], again[N], scratch[N];
    apply(&all, 17, first);
    for (int i = 0; i < N; i++)
        scratch[i] = (float)-i; /* what lies in scratch does not matter */
    fresh(again);
    cadre_augment_apply(&all, 9, 2, 17, again, scratch, C, H, W);
    assert_memory_equal(first, again, sizeof first);
    for (int part = 0; part < 3; part++) {
        fresh(again);
        cadre_augment_apply(&all, 9 + (part == 0), 2 + (part == 1), 17 + (part == 2), again, scratch, C, H, W);
        assert_memory_not_equal(first, again, sizeof first);
    }
    apply(&(cadre_augment){0}, 17, again);
    fresh(first);
    assert_memory_equal(first, again, sizeof first);
    for (int64_t key = 0; key < 50; key++) {
        float both[N];
        apply(&(cadre_augment){.crop_padding = 2}, key, first);
        apply(&(cadre_augment){.crop_padding = 2, .flip = true}, key, both);
        apply(&(cadre_augment){.flip = true}, key, again);
        bool flipped = again[0] != 1.0f;
        for (int i = 0; i < N; i++)
            assert_true(both[i] == first[flipped ? i / W * W + W - 1 - i % W : i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crop_and_shift), cmocka_unit_test(test_flip),  cmocka_unit_test(test_erase),
        cmocka_unit_test(test_rotate),         cmocka_unit_test(test_noise), cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
