/* Our side of check_python.sh: "write PATH" makes a checkpoint, "shard PATH" one of three files, "read FILE" checks a safetensors file. Byte i of tensor
 * t is (7 i + 31 t) mod 256. */
#include "base/io.h"
#include "trainer/state/checkpoint.h"

#include <stdio.h>
#include <string.h>

static const struct sample {
    const char *name;
    cadre_state_dtype dtype;
    int dims;
    int64_t shape[3];
} samples[] = {
    {"u8", CADRE_STATE_U8, 1, {5}},         {"f64", CADRE_STATE_F64, 2, {2, 3}},
    {"f32", CADRE_STATE_F32, 3, {4, 1, 2}}, {"f16", CADRE_STATE_F16, 1, {3}},
    {"bf16", CADRE_STATE_BF16, 1, {3}},     {"i64", CADRE_STATE_I64, 1, {2}},
    {"i32", CADRE_STATE_I32, 0, {0}},       {"i16", CADRE_STATE_I16, 2, {2, 2}},
    {"i8", CADRE_STATE_I8, 1, {7}},         {"bool", CADRE_STATE_BOOL, 1, {2}},
    {"empty", CADRE_STATE_F32, 2, {0, 3}},  {"na\xC3\xAFve \"name\"", CADRE_STATE_F32, 1, {1}},
};
enum { COUNT = sizeof samples / sizeof *samples };

static unsigned char content[COUNT][64];

static size_t fill(int index)
{
    size_t nbytes = state_dtype_nbytes(samples[index].dtype);
    for (int i = 0; i < samples[index].dims; i++)
        nbytes *= (size_t)samples[index].shape[i];
    for (size_t i = 0; i < nbytes; i++) {
        unsigned char byte = (unsigned char)(7 * i + 31 * (unsigned)index);
        content[index][i] = samples[index].dtype == CADRE_STATE_BOOL ? byte % 2 : byte;
    }
    return nbytes;
}

static int write_shards(const char *path, cadre_state *state, const void *locals)
{
    enum { WORLD = 3 };
    state_snapshot *snapshots[WORLD] = {NULL};
    checkpoint_file files[WORLD];
    cadre_checkpoint_info meta = {.attempt = 0};
    int status = CADRE_OK;
    for (int rank = 0; status == CADRE_OK && rank < WORLD; rank++) {
        status = state_snapshot_take_share(state, rank, WORLD, &snapshots[rank]);
        if (status == CADRE_OK)
            status = checkpoint_shard_write(path, 0, snapshots[rank], locals, &files[rank]);
    }
    if (status == CADRE_OK)
        status = checkpoint_shards_commit(path, snapshots[0], files, &meta, NULL);
    for (int rank = 0; rank < WORLD; rank++)
        state_snapshot_free(snapshots[rank]);
    return status;
}

static int write_checkpoint(const char *path, bool sharded)
{
    cadre_state *state;
    double lr = 0.1;
    int64_t count = INT64_MIN;
    char own[] = "abc";
    int status = cadre_state_new(&state);
    if (status != CADRE_OK)
        return status;
    state->epoch = 3;
    for (int i = 0; status == CADRE_OK && i < COUNT; i++) {
        fill(i);
        status = cadre_state_add_tensor(state, samples[i].name, samples[i].dtype, samples[i].dims, samples[i].shape,
                                        content[i]);
    }
    if (status == CADRE_OK)
        status = cadre_state_add_double(state, "lr", &lr);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, "count", &count);
    if (status == CADRE_OK)
        status = cadre_state_add_local(state, "own", own, 3);
    if (status == CADRE_OK)
        status = sharded ? write_shards(path, state, own) : cadre_checkpoint_save(path, state);
    cadre_state_free(state);
    return status;
}

static int check_tensor(const safetensors_index *index, const unsigned char *data, int i)
{
    const safetensors_tensor *tensor = safetensors_find(index, samples[i].name);
    size_t nbytes = fill(i);
    if (tensor && strcmp(tensor->dtype, state_dtype_name(samples[i].dtype)) == 0 && tensor->dims == samples[i].dims &&
        memcmp(tensor->shape, samples[i].shape, (size_t)tensor->dims * sizeof *tensor->shape) == 0 &&
        tensor->end - tensor->begin == nbytes && memcmp(data + tensor->begin, content[i], nbytes) == 0)
        return 0;
    fprintf(stderr, "tensor %s is not as it was written\n", samples[i].name);
    return 1;
}

static int read_file(const char *path)
{
    base_buffer file = {0};
    safetensors_index index = {0};
    int wrong = 0;
    int status = base_read_file(path, 1 << 20, &file);
    if (status == CADRE_OK)
        status = safetensors_parse(file.data, file.length, file.length, &index);
    for (int i = 0; status == CADRE_OK && i < COUNT; i++)
        if (samples[i].dtype != CADRE_STATE_BF16) /* which numpy lacks */
            wrong += check_tensor(&index, file.data + index.data_offset, i);
    safetensors_index_free(&index);
    base_buffer_free(&file);
    return wrong ? CADRE_ECORRUPT : status;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int status = strcmp(argv[1], "read") == 0 ? read_file(argv[2]) : write_checkpoint(argv[2], strcmp(argv[1], "shard") == 0);
    if (status != CADRE_OK)
        fprintf(stderr, "%s: %s\n", argv[1], cadre_error_message());
    return status != CADRE_OK;
}
