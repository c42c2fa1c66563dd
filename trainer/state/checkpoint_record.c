/*
 * state.json: what a checkpoint has besides tensors. Its last field is the hash of the text itself, taken with that
 * field empty, so that any changed byte shows, white space and the hash's own digits included.
 */
#include "checkpoint.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "hash.h"
#include "text.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "cadre-checkpoint";
static const char hash_field[] = "\"hash\": \"";
static const char text_end[] = "\"\n}\n";

enum { HASH_DIGITS = STATE_HASH_TEXT - 1, END_LENGTH = sizeof text_end - 1, FIELD_LENGTH = sizeof hash_field - 1 };

static int no_memory(void) { return base_error(CADRE_ENOMEM, "out of memory for " CHECKPOINT_RECORD); }

/* JSON has no NaN and no infinity: their bits are written, so that they too come back as they were. */
static json_t *real_to_json(double value)
{
    if (isfinite(value))
        return json_real(value);
    uint64_t bits;
    char text[20];
    memcpy(&bits, &value, sizeof bits);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)bits);
    return json_string(text);
}

static bool real_from_json(const json_t *json, double *out)
{
    const char *text = json_string_value(json);
    if (json_is_real(json)) {
        *out = json_real_value(json);
        return true;
    }
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    uint64_t bits = strtoull(text, NULL, 16);
    memcpy(out, &bits, sizeof bits);
    return true;
}

static json_t *file_to_json(const checkpoint_file *file)
{
    return json_pack("{s:I, s:s}", "nbytes", (json_int_t)file->nbytes, "xxh3_128", file->hash);
}

/* {"state-00001-of-00002.safetensors": {"nbytes": ..., "xxh3_128": ...}, ...}: all that the record vouches for. */
static json_t *files_to_json(const checkpoint_record *record)
{
    json_t *files = json_object();
    bool whole = files != NULL;
    for (int i = 0; whole && i < record->shards; i++) {
        char name[CHECKPOINT_NAME];
        checkpoint_file_name(i, record->shards, name);
        whole = json_object_set_new(files, name, file_to_json(&record->files[i])) == 0;
    }
    if (!whole || json_object_set_new(files, CHECKPOINT_INDEX, file_to_json(&record->index)) != 0) {
        json_decref(files);
        return NULL;
    }
    return files;
}

static json_t *record_to_json(const checkpoint_record *record, json_t *scalars, json_t *locals)
{
    char made[BASE_UTC_TEXT];
    base_utc_format(base_utc_us(), made);
    const cadre_checkpoint_info *info = &record->info;
    bool sharded = record->shards > 0;
    return json_pack("{s:s, s:i, s:s, s:I, s:I, s:I, s:i, s:i, s:o, s:o, s:o, s:s}", "format", format_name,
                     "version", sharded ? 2 : 1, "made", made, "epoch", (json_int_t)info->epoch, "step",
                     (json_int_t)info->step, "report", (json_int_t)info->report, "attempt", info->attempt, "world",
                     info->world, "scalars", scalars, "locals", locals, sharded ? "files" : CHECKPOINT_TENSORS,
                     sharded ? files_to_json(record) : file_to_json(record->files), "hash", "");
}

static int render_unhashed(const checkpoint_record *record, const state_snapshot *snapshot, base_buffer *out)
{
    json_t *scalars = json_object(), *locals = json_array();
    bool whole = scalars && locals;
    for (int i = 0; whole && i < snapshot->count; i++) {
        const state_entry *entry = &snapshot->entries[i];
        if (entry->kind == STATE_LOCAL)
            whole = json_array_append_new(locals, json_string(entry->name)) == 0;
        else if (entry->kind == STATE_INT64)
            whole = json_object_set_new(scalars, entry->name, json_integer(entry->value.integer)) == 0;
        else if (entry->kind == STATE_DOUBLE)
            whole = json_object_set_new(scalars, entry->name, real_to_json(entry->value.real)) == 0;
    }
    if (!whole) {
        json_decref(scalars);
        json_decref(locals);
        return no_memory();
    }
    json_t *root = record_to_json(record, scalars, locals); /* takes both, on failure too */
    int status = state_json_print(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17), out);
    json_decref(root);
    return status;
}

/* The hash of the text's two parts around the digits of the hash field. */
static int hash_around(const char *text, size_t before, const char *after, size_t nbytes, char digits[STATE_HASH_TEXT])
{
    state_hash *hash;
    int status = state_hash_new(&hash);
    if (status != CADRE_OK)
        return status;
    state_hash_update(hash, text, before);
    state_hash_update(hash, after, nbytes);
    state_hash_text(hash, digits);
    state_hash_free(hash);
    return CADRE_OK;
}

int checkpoint_record_render(checkpoint_record *record, const state_snapshot *snapshot, base_buffer *out)
{
    char digits[STATE_HASH_TEXT];
    size_t start = out->length;
    int status = render_unhashed(record, snapshot, out);
    if (status != CADRE_OK)
        return status;
    out->length -= END_LENGTH - 1; /* back to the hash field's closing quote; the text's last newline is ours */
    status = hash_around((char *)out->data + start, out->length - start, text_end, END_LENGTH, digits);
    if (status == CADRE_OK)
        status = base_buffer_append(out, digits, HASH_DIGITS);
    if (status == CADRE_OK)
        status = base_buffer_append(out, text_end, END_LENGTH);
    size_t nbytes = out->length - start;
    if (status == CADRE_OK && nbytes > CHECKPOINT_RECORD_LIMIT)
        status = base_error(CADRE_EINVAL, CHECKPOINT_RECORD " would have %zu bytes, over the limit of %d", nbytes,
                            CHECKPOINT_RECORD_LIMIT);
    if (status != CADRE_OK) {
        out->length = start;
        return status;
    }
    memcpy(record->info.hash, digits, sizeof digits);
    record->info.nbytes += (int64_t)nbytes;
    return CADRE_OK;
}

static bool get_integer(const json_t *root, const char *name, int64_t low, int64_t high, int64_t *out)
{
    const json_t *json = json_object_get(root, name);
    if (!json_is_integer(json) || json_integer_value(json) < low || json_integer_value(json) > high)
        return false;
    *out = json_integer_value(json);
    return true;
}

static bool scalars_are_numbers(json_t *scalars)
{
    const char *name;
    json_t *value;
    double real;
    if (!json_is_object(scalars))
        return false;
    json_object_foreach(scalars, name, value)
    {
        if (!json_is_integer(value) && !real_from_json(value, &real))
            return false;
    }
    return true;
}

static bool all_are_strings(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i)))
            return false;
    return json_is_array(list);
}

static bool get_file(const json_t *of, const char *name, checkpoint_file *file, int64_t *total)
{
    const json_t *json = json_object_get(of, name);
    const char *hash = json_string_value(json_object_get(json, "xxh3_128"));
    int64_t nbytes;
    if (!get_integer(json, "nbytes", 0, INT64_MAX / 2, &nbytes) || !hash || strlen(hash) != HASH_DIGITS ||
        __builtin_add_overflow(*total, nbytes, total) || *total > INT64_MAX / 2)
        return false;
    file->nbytes = (uint64_t)nbytes;
    memcpy(file->hash, hash, STATE_HASH_TEXT);
    return true;
}

/* One file, or shards and their index. */
static int read_files(const json_t *root, checkpoint_record *record)
{
    const json_t *files = json_object_get(root, "files");
    size_t count = json_object_size(files);
    if (files && (count < 2 || count - 1 > CHECKPOINT_WORLD_LIMIT))
        return base_error(CADRE_ECORRUPT, "its list of files is not what it should be");
    record->shards = files ? (int)count - 1 : 0;
    record->files = base_calloc(files ? count - 1 : 1, sizeof *record->files);
    if (!record->files)
        return CADRE_ENOMEM;
    bool whole = files ? get_file(files, CHECKPOINT_INDEX, &record->index, &record->info.nbytes)
                       : get_file(root, CHECKPOINT_TENSORS, record->files, &record->info.nbytes);
    for (int i = 0; whole && i < record->shards; i++) {
        char name[CHECKPOINT_NAME];
        checkpoint_file_name(i, record->shards, name);
        whole = get_file(files, name, &record->files[i], &record->info.nbytes);
    }
    return whole ? CADRE_OK : base_error(CADRE_ECORRUPT, "a file is missing in its list, or not described as it should be");
}

static int read_fields(json_t *root, checkpoint_record *record)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    int64_t version, attempt, world;
    if (!format || strcmp(format, format_name) != 0 || !get_integer(root, "version", 1, INT64_MAX, &version))
        return base_error(CADRE_ECORRUPT, "it is no record of a checkpoint");
    if (version > CHECKPOINT_VERSION)
        return base_error(CADRE_EVERSION, "it has format %lld, this program reads up to %d: use a newer one",
                          (long long)version, CHECKPOINT_VERSION);
    cadre_checkpoint_info *info = &record->info;
    record->scalars = json_object_get(root, "scalars");
    record->locals = json_object_get(root, "locals");
    if (!get_integer(root, "epoch", INT64_MIN, INT64_MAX, &info->epoch) ||
        !get_integer(root, "step", INT64_MIN, INT64_MAX, &info->step) ||
        !get_integer(root, "report", INT64_MIN, INT64_MAX, &info->report) ||
        !get_integer(root, "attempt", INT_MIN, INT_MAX, &attempt) ||
        !get_integer(root, "world", 1, CHECKPOINT_WORLD_LIMIT, &world) ||
        !scalars_are_numbers(record->scalars) || !all_are_strings(record->locals))
        return base_error(CADRE_ECORRUPT, "a field is missing or not what it should be");
    info->attempt = (int)attempt;
    info->world = (int)world;
    return read_files(root, record);
}

int checkpoint_record_parse_body(const char *text, size_t nbytes, checkpoint_record *out)
{
    json_error_t where;
    json_t *root = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &where);
    if (!root && state_json_no_memory(&where))
        return no_memory();
    if (!root)
        return base_error(CADRE_ECORRUPT, "line %d, column %d: %s", where.line, where.column, where.text);
    checkpoint_record record = {.root = root};
    int status = read_fields(root, &record);
    if (status != CADRE_OK) {
        checkpoint_record_free(&record);
        return status;
    }
    record.info.nbytes += (int64_t)nbytes;
    *out = record;
    return CADRE_OK;
}

int checkpoint_record_parse(const char *text, size_t nbytes, checkpoint_record *out)
{
    char digits[STATE_HASH_TEXT];
    if (nbytes < FIELD_LENGTH + HASH_DIGITS + END_LENGTH)
        return base_error(CADRE_ECORRUPT, "it ends too early");
    size_t at = nbytes - END_LENGTH - HASH_DIGITS;
    if (memcmp(text + at + HASH_DIGITS, text_end, END_LENGTH) != 0 ||
        memcmp(text + at - FIELD_LENGTH, hash_field, FIELD_LENGTH) != 0)
        return base_error(CADRE_ECORRUPT, "it does not end with its hash");
    int status = hash_around(text, at, text + at + HASH_DIGITS, END_LENGTH, digits);
    if (status != CADRE_OK)
        return status;
    if (memcmp(digits, text + at, HASH_DIGITS) != 0)
        return base_error(CADRE_ECORRUPT, "it is not what was written: its hash is %s, not %.*s", digits,
                          (int)HASH_DIGITS, text + at);
    status = checkpoint_record_parse_body(text, nbytes, out);
    if (status == CADRE_OK)
        memcpy(out->info.hash, digits, sizeof digits);
    return status;
}

void checkpoint_record_free(checkpoint_record *record)
{
    if (!record)
        return;
    json_decref(record->root);
    free(record->files);
    *record = (checkpoint_record){0};
}

bool checkpoint_record_scalar(const checkpoint_record *record, const char *name, state_kind kind, state_scalar *out)
{
    const json_t *json = json_object_get(record->scalars, name);
    if (kind == STATE_DOUBLE)
        return real_from_json(json, &out->real);
    if (!json_is_integer(json))
        return false;
    out->integer = json_integer_value(json);
    return true;
}

bool checkpoint_record_is_local(const checkpoint_record *record, const char *name)
{
    for (size_t i = 0; i < json_array_size(record->locals); i++)
        if (strcmp(json_string_value(json_array_get(record->locals, i)), name) == 0)
            return true;
    return false;
}
