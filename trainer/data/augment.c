/* Augmentation. Each step draws from a stream of its own, so that turning one on leaves what the others do as it was.
 */
#include "cadre/data.h"

#include "base/rng.h"
#include "keys.h"

#include <math.h>
#include <string.h>

typedef struct shape {
    int channels, height, width;
} shape;

static void fill_row(float *row, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        row[i] = value;
}

/* out[y][x] = in[y + down][x + right] in place, `fill` from outside. Rows are moved in the order in which none is
 * overwritten early. */
static void translate(float *image, shape size, int64_t down, int64_t right, float fill)
{
    if (down == 0 && right == 0)
        return;
    int64_t height = size.height;
    int64_t width = size.width;
    int64_t left_gap = right < 0 ? (-right < width ? -right : width) : 0;
    int64_t right_gap = right > 0 ? (right < width ? right : width) : 0;
    size_t kept = (size_t)(width - left_gap - right_gap) * sizeof *image;
    for (int c = 0; c < size.channels; c++) {
        float *plane = image + (size_t)c * (size_t)(height * width);
        for (int64_t i = 0; i < height; i++) {
            int64_t y = down >= 0 ? i : height - 1 - i;
            float *row = plane + y * width;
            if (y + down < 0 || y + down >= height || kept == 0) {
                fill_row(row, width, fill);
                continue;
            }
            memmove(row + left_gap, plane + (y + down) * width + right_gap, kept);
            fill_row(row, left_gap, fill);
            fill_row(row + width - right_gap, right_gap, fill);
        }
    }
}

static void mirror(float *image, shape size)
{
    int64_t rows = (int64_t)size.channels * size.height;
    for (int64_t y = 0; y < rows; y++) {
        float *row = image + y * size.width;
        for (int left = 0, right = size.width - 1; left < right; left++, right--) {
            float kept = row[left];
            row[left] = row[right];
            row[right] = kept;
        }
    }
}

/* A pixel, or what lies around the image. */
static float pixel(const float *plane, shape size, int y, int x, float fill)
{
    return y >= 0 && y < size.height && x >= 0 && x < size.width ? plane[(int64_t)y * size.width + x] : fill;
}

/* floor(), which without SSE4 is a slow call. */
static int round_down(double x)
{
    int towards_zero = (int)x;
    return towards_zero - (x < towards_zero);
}

/* Bilinear, `v` below (y0, x0) and `u` to its right. */
static float between(const float *plane, shape size, int y0, int x0, float v, float u, float fill)
{
    float near[4];
    if (y0 >= 0 && y0 < size.height - 1 && x0 >= 0 && x0 < size.width - 1) {
        const float *at = plane + (int64_t)y0 * size.width + x0;
        near[0] = at[0];
        near[1] = at[1];
        near[2] = at[size.width];
        near[3] = at[size.width + 1];
    } else {
        for (int i = 0; i < 4; i++)
            near[i] = pixel(plane, size, y0 + i / 2, x0 + i % 2, fill);
    }
    float upper = near[0] * (1 - u) + near[1] * u;
    float lower = near[2] * (1 - u) + near[3] * u;
    return upper * (1 - v) + lower * v;
}

/* Turn about the centre; each pixel is taken from where it was, between four neighbours. */
static void turn(float *image, float *scratch, shape size, double radians, float fill)
{
    size_t plane_floats = (size_t)size.height * (size_t)size.width;
    double cosine = cos(radians);
    double sine = sin(radians);
    double middle_y = (size.height - 1) / 2.0;
    double middle_x = (size.width - 1) / 2.0;
    memcpy(scratch, image, (size_t)size.channels * plane_floats * sizeof *image);
    for (int y = 0; y < size.height; y++)
        for (int x = 0; x < size.width; x++) {
            double from_y = cosine * (y - middle_y) + sine * (x - middle_x) + middle_y;
            double from_x = cosine * (x - middle_x) - sine * (y - middle_y) + middle_x;
            int y0 = round_down(from_y);
            int x0 = round_down(from_x);
            float v = (float)(from_y - y0);
            float u = (float)(from_x - x0);
            for (int c = 0; c < size.channels; c++)
                image[(size_t)c * plane_floats + (size_t)y * (size_t)size.width + (size_t)x] =
                    between(scratch + (size_t)c * plane_floats, size, y0, x0, v, u, fill);
        }
}

/* A hole whose centre is anywhere in the image, so that it may hang over the edge, as in the paper. */
static void erase(float *image, shape size, int64_t middle_y, int64_t middle_x, int64_t side)
{
    int64_t top = middle_y - side / 2;
    int64_t left = middle_x - side / 2;
    int64_t bottom = top + side < size.height ? top + side : size.height;
    int64_t right = left + side < size.width ? left + side : size.width;
    top = top > 0 ? top : 0;
    left = left > 0 ? left : 0;
    for (int c = 0; c < size.channels; c++)
        for (int64_t y = top; y < bottom; y++)
            fill_row(image + ((int64_t)c * size.height + y) * size.width + left, right - left, 0.0f);
}

/* Box-Muller, both branches, in float32: four numbers from one Philox block. */
static void add_noise(float *image, size_t n, base_rng *rng, float std)
{
    for (size_t i = 0; i < n;) {
        float above_zero = ((float)(base_rng_u32(rng) >> 8) + 1.0f) * 0x1p-24f;
        float angle = (float)(base_rng_u32(rng) >> 8) * (6.2831853f * 0x1p-24f);
        float radius = std * sqrtf(-2.0f * logf(above_zero));
        float sine, cosine;
        sincosf(angle, &sine, &cosine);
        image[i++] += radius * cosine;
        if (i < n)
            image[i++] += radius * sine;
    }
}

/* An integer in [-most, most]. */
static int64_t offset(base_rng *rng, int most) { return (int64_t)base_rng_below(rng, 2 * (uint64_t)most + 1) - most; }

void cadre_augment_apply(const cadre_augment *augment, uint64_t seed, int64_t epoch, int64_t index, float *image,
                         float *scratch, int channels, int height, int width)
{
    shape size = {channels, height, width};
    uint64_t sample = base_rng_mix((uint64_t)epoch, (uint64_t)index);
    base_rng rng;
    if (augment->crop_padding > 0) {
        base_rng_init(&rng, seed, base_rng_mix(sample, DATA_KEY_CROP));
        int64_t down = offset(&rng, augment->crop_padding);
        translate(image, size, down, offset(&rng, augment->crop_padding), 0.0f);
    }
    if (augment->flip) {
        base_rng_init(&rng, seed, base_rng_mix(sample, DATA_KEY_FLIP));
        if (base_rng_u32(&rng) & 1)
            mirror(image, size);
    }
    if (augment->shift > 0) {
        base_rng_init(&rng, seed, base_rng_mix(sample, DATA_KEY_SHIFT));
        int64_t down = offset(&rng, augment->shift);
        translate(image, size, down, offset(&rng, augment->shift), augment->fill);
    }
    if (augment->rotate > 0) {
        base_rng_init(&rng, seed, base_rng_mix(sample, DATA_KEY_ROTATE));
        double degrees = fmin(augment->rotate, 360) * (2 * base_rng_uniform(&rng) - 1);
        turn(image, scratch, size, degrees * (3.14159265358979323846 / 180), augment->fill);
    }
    if (augment->erase > 0) {
        base_rng_init(&rng, seed, base_rng_mix(sample, DATA_KEY_ERASE));
        int64_t middle_y = (int64_t)base_rng_below(&rng, (uint64_t)height);
        erase(image, size, middle_y, (int64_t)base_rng_below(&rng, (uint64_t)width), augment->erase);
    }
    if (augment->noise > 0) {
        base_rng_init(&rng, seed, base_rng_mix(sample, DATA_KEY_NOISE));
        add_noise(image, (size_t)channels * (size_t)height * (size_t)width, &rng, (float)augment->noise);
    }
}
