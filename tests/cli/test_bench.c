/* `cadre bench collectives`: the rows it prints, that results are checked, and what it says when something is wrong. */
#include "shell.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bench(const char *before, const char *arguments) { return run("%s cadre bench %s", before, arguments); }

/* Every line is an object that is well-formed and right; answers how many there are. */
static int check_rows(const char *backend, int ranks)
{
    int rows = 0;
    for (char *line = strtok(output, "\n"); line; line = strtok(NULL, "\n"), rows++) {
        const char *op, *used, *type;
        json_int_t size = 0, count = 0, world = 0, wrong = -1, iterations = 0;
        double us = 0, least = 0, most = 0, algbw = 0, busbw = 0;
        json_t *row = json_loads(line, 0, NULL);
        if (!row || json_unpack(row, "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:F, s:F, s:F, s:F, s:F}", "op", &op,
                                "backend", &used, "type", &type, "size_bytes", &size, "count", &count, "ranks", &world,
                                "wrong", &wrong, "iterations", &iterations, "time_us", &us, "time_min_us", &least,
                                "time_max_us", &most, "algbw_gbs", &algbw, "busbw_gbs", &busbw) != 0)
            fail_msg("no row: %s", line);
        assert_string_equal(used, backend);
        assert_int_equal(world, ranks);
        assert_int_equal(wrong, 0);
        assert_true(us > 0 && least <= us && us <= most && iterations > 0);
        bool split = strcmp(op, "all_gather") == 0 || strcmp(op, "reduce_scatter") == 0;
        json_int_t element = strcmp(type, "float64") == 0 || strcmp(type, "int64") == 0 ? 8
                             : strcmp(type, "bfloat16") == 0                            ? 2
                                                                                        : 4;
        assert_int_equal(size, count * (split ? world : 1) * (strcmp(op, "barrier") == 0 ? 0 : element));
        double share = strcmp(op, "broadcast") == 0
                           ? 1
                           : (double)(world - 1) / (double)world * (strcmp(op, "all_reduce") == 0 ? 2 : 1);
        assert_true(busbw <= algbw * share + 1e-3 && busbw >= algbw * share - 1e-3);
        json_decref(row);
    }
    return rows;
}

static void test_rows(void **state)
{
    (void)state;
    assert_int_equal(bench("", "collectives --op all_reduce --backend shm --ranks 2 -b 4K -e 1M -f 4 --json -n 3"), 0);
    assert_int_equal(check_rows("shm", 2), 5);
    static const char *const types[] = {"float32", "float64", "bfloat16", "int32", "int64"};
    static const char *const ops[] = {"sum", "mean", "min", "max", "product"};
    for (int i = 0; i < 5; i++) {
        char arguments[200];
        snprintf(arguments, sizeof arguments,
                 "collectives --op=all --ranks=3 -b 1 -e 70001 -f 70001 --json -n 2 -w 0 --type %s --reduce %s%s",
                 types[i], ops[i], i % 2 ? " --unregistered" : "");
        assert_int_equal(bench("", arguments), 0);
        assert_int_equal(check_rows("shm", 3), 4 * 2 + 1);
    }
    char nccl[600];
    snprintf(nccl, sizeof nccl, "CADRE_NCCL='%s' CADRE_CUDART='%s'", getenv("CADRE_NCCL_DOUBLE"),
             getenv("CADRE_NCCL_DOUBLE"));
    assert_int_equal(bench(nccl, "collectives --backend nccl --op all -b 4K -e 64K -f 16 --json -n 2"), 0);
    assert_int_equal(check_rows("nccl", 2), 4 * 2 + 1);
    assert_int_equal(bench("", "collectives --ranks 1 -b 4K -e 4K --json -n 2"), 0);
    assert_int_equal(check_rows("self", 1), 1);
}

static void test_table(void **state)
{
    (void)state;
    assert_int_equal(bench("", "collectives -b 64K -e 64K -n 3"), 0);
    expect("size        count      type    redop       operation         time     algbw     busbw    wrong");
    expect("65536        16384   float32      sum      all_reduce");
}

static void test_errors(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "nonsense",
                                        "collectives more",
                                        "collectives --op x",
                                        "collectives --type float16",
                                        "collectives --reduce xor",
                                        "collectives --ranks 0",
                                        "collectives --ranks 2x",
                                        "collectives --ranks 257",
                                        "collectives -b 4X",
                                        "collectives -b ''",
                                        "collectives -b 4MB",
                                        "collectives -b -4",
                                        "collectives -b nan",
                                        "collectives -b 4M -e 4K",
                                        "collectives -f 1",
                                        "collectives -f x",
                                        "collectives -n 0",
                                        "collectives --timeout 0",
                                        "collectives --nonsense"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (bench("", wrong[i]) != 2 || count("\n") != 1)
            fail_msg("%s: %s", wrong[i], output);
    }
    assert_int_equal(bench("", "collectives --backend nonsense"), 1);
    assert_int_equal(count("\n"), 1);
    expect("there is no backend 'nonsense'");
    assert_int_equal(bench("", "collectives --backend self"), 1);
    assert_int_equal(count("\n"), 1);
    expect("self is for one rank");
    assert_int_equal(bench("", "collectives -b 4K -e 16T"), 1);
    assert_int_equal(count("\n"), 1);
    expect("bytes of shared memory");
}

/* A rank that dies, and one that stands still: said, and no process is left waiting. */
static void test_lost_rank(void **state)
{
    (void)state;
    assert_int_equal(bench("CADRE_FAULT=collective:9:kill@1", "collectives --ranks 3 -b 64K -e 64K --json"), 1);
    assert_int_equal(count("\n"), 1);
    expect("rank 1 was killed by signal 9");
    assert_int_equal(bench("CADRE_FAULT=collective:9:exit@1", "collectives --ranks 3 -b 64K -e 64K --json"), 1);
    assert_int_equal(count("\n"), 1);
    expect("rank 1 (pid ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_table),
                                       cmocka_unit_test(test_errors), cmocka_unit_test(test_lost_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
