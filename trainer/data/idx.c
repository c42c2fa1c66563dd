/* An IDX pair as a dataset: finding the two files, and turning bytes into normalised floats by table. */
#include "cadre/data.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "idx_read.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* What a dataset's `user` is: the array, and the value that each byte stands for. */
typedef struct view {
    const cadre_idx *idx;
    float mean, std;
    float values[256];
    struct view *next;
} view;

struct cadre_idx {
    data_idx_array images, labels;
    int channels, height, width, classes;
    size_t sample_bytes;
    view *views;
};

/* The first that is there of "<stem>-idx<dims>-ubyte", that with ".gz", and both with "." for "-". *path NULL: none is.
 */
static int find_file(const char *directory, const char *stem, int dims, char **path)
{
    *path = NULL;
    for (int form = 0; form < 4; form++) {
        char *name = base_sprintf("%s%cidx%d-ubyte%s", stem, form < 2 ? '-' : '.', dims, form % 2 ? ".gz" : "");
        char *found = name ? base_path_join(directory, name) : NULL;
        free(name);
        if (!found)
            return CADRE_ENOMEM;
        if (base_exists(found)) {
            *path = found;
            return CADRE_OK;
        }
        free(found);
    }
    return CADRE_OK;
}

static int missing(const char *directory, const char *stem, const char *dims)
{
    return base_error(CADRE_ENOENT,
                      "no %s-idx%s-ubyte in %s: looked for it plain, with .gz and with \".idx\" for \"-idx\" "
                      "(scripts/get-mnist.sh fetches MNIST; Debian's dataset-fashion-mnist lies in "
                      "/usr/share/datasets/fashion-mnist)",
                      stem, dims, directory);
}

static int read_images(const char *directory, bool train, cadre_idx *idx, char **path)
{
    const char *stem = train ? "train-images" : "t10k-images";
    int status = find_file(directory, stem, 3, path);
    if (status == CADRE_OK && !*path)
        status = find_file(directory, stem, 4, path);
    if (status == CADRE_OK && !*path)
        status = missing(directory, stem, "3");
    if (status == CADRE_OK)
        status = data_idx_read_file(*path, &idx->images);
    if (status != CADRE_OK)
        return status;
    const data_idx_array *images = &idx->images;
    if (images->dims < 3)
        return base_error(CADRE_ECORRUPT, "%s: %d dimensions; images have 3 or 4", *path, images->dims);
    idx->channels = images->dims == 4 ? (int)images->shape[1] : 1;
    idx->height = (int)images->shape[images->dims - 2];
    idx->width = (int)images->shape[images->dims - 1];
    idx->sample_bytes = images->nbytes / (size_t)images->shape[0];
    return CADRE_OK;
}

static int read_labels(const char *directory, bool train, cadre_idx *idx, char **path)
{
    const char *stem = train ? "train-labels" : "t10k-labels";
    int status = find_file(directory, stem, 1, path);
    if (status == CADRE_OK && !*path)
        status = missing(directory, stem, "1");
    if (status == CADRE_OK)
        status = data_idx_read_file(*path, &idx->labels);
    if (status != CADRE_OK)
        return status;
    if (idx->labels.dims != 1)
        return base_error(CADRE_ECORRUPT, "%s: %d dimensions; labels have 1", *path, idx->labels.dims);
    for (size_t i = 0; i < idx->labels.nbytes; i++)
        if (idx->labels.bytes[i] >= idx->classes)
            idx->classes = idx->labels.bytes[i] + 1;
    return CADRE_OK;
}

int cadre_idx_open(const char *directory, bool train, cadre_idx **out)
{
    if (!directory || !out)
        return base_error(CADRE_EINVAL, "open IDX data: no directory or no place for the answer");
    char *image_path = NULL;
    char *label_path = NULL;
    cadre_idx *idx = base_calloc(1, sizeof *idx);
    int status = idx ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = read_images(directory, train, idx, &image_path);
    if (status == CADRE_OK)
        status = read_labels(directory, train, idx, &label_path);
    if (status == CADRE_OK && idx->images.shape[0] != idx->labels.shape[0])
        status = base_error(CADRE_ECORRUPT, "%s has %" PRId64 " images, %s %" PRId64 " labels", image_path,
                            idx->images.shape[0], label_path, idx->labels.shape[0]);
    free(label_path);
    free(image_path);
    if (status == CADRE_OK)
        *out = idx;
    else
        cadre_idx_free(idx);
    return status;
}

void cadre_idx_free(cadre_idx *idx)
{
    if (!idx)
        return;
    for (view *next, *at = idx->views; at; at = next) {
        next = at->next;
        free(at);
    }
    data_idx_array_free(&idx->labels);
    data_idx_array_free(&idx->images);
    free(idx);
}

static int64_t view_count(void *user) { return cadre_idx_count(((const view *)user)->idx); }

static int view_get(void *user, int64_t index, float *values, int64_t *label)
{
    const view *from = user;
    const cadre_idx *idx = from->idx;
    if (index < 0 || index >= cadre_idx_count(idx))
        return base_error(CADRE_EINVAL, "sample %" PRId64 " of %" PRId64, index, cadre_idx_count(idx));
    const unsigned char *bytes = idx->images.bytes + (size_t)index * idx->sample_bytes;
    for (size_t i = 0; i < idx->sample_bytes; i++)
        values[i] = from->values[bytes[i]];
    *label = idx->labels.bytes[index];
    return CADRE_OK;
}

int cadre_idx_dataset(cadre_idx *idx, float mean, float std, cadre_dataset *out)
{
    if (!idx || !out)
        return base_error(CADRE_EINVAL, "dataset over IDX data: no data or no place for the answer");
    if (!isfinite(mean) || !isfinite(std) || !(std > 0.0f))
        return base_error(CADRE_EINVAL, "dataset over IDX data: mean %g and std %g; std must be above 0", (double)mean,
                          (double)std);
    view *made = idx->views;
    while (made && (made->mean != mean || made->std != std))
        made = made->next;
    if (!made) {
        made = base_malloc(sizeof *made);
        if (!made)
            return CADRE_ENOMEM;
        *made = (view){.idx = idx, .mean = mean, .std = std, .next = idx->views};
        for (int byte = 0; byte < 256; byte++) /* in float32, one step after the other: the bits torchvision gives */
            made->values[byte] = ((float)byte / 255.0f - mean) / std;
        idx->views = made;
    }
    *out = (cadre_dataset){.count = view_count,
                           .get = view_get,
                           .user = made,
                           .channels = idx->channels,
                           .height = idx->height,
                           .width = idx->width};
    return CADRE_OK;
}

int64_t cadre_idx_count(const cadre_idx *idx) { return idx->images.shape[0]; }

int cadre_idx_classes(const cadre_idx *idx) { return idx->classes; }
