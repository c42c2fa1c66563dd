/* The nth allocation fails, from the first to the last, in what reads a sweep and compiles its space: said, nothing lost, nothing half made. */
#include "base/fault.h"
#include "base/mem.h"
#include "cadre/config.h"
#include "tuner/sweep.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static const char text[] = "name: faults\n"
                           "metric: loss\n"
                           "mode: min\n"
                           "command: [prog, --lr, \"{lr}\", --optimizer, \"{optimizer}\", --momentum, \"{momentum}\"]\n"
                           "params:\n"
                           "  lr: loguniform(1e-4, 1)\n"
                           "  optimizer: choice(sgd, 'two words', 3, true)\n"
                           "  momentum: {uniform: [0.5, 0.99], when: {optimizer: sgd}}\n"
                           "  layers: {grid: [1, 2, 4]}\n"
                           "  width: qrandint(8, 64, 8)\n"
                           "  epochs: 9\n"
                           "search: {name: tpe, startup: 6, points: [{lr: 0.1, optimizer: sgd, momentum: 0.6, layers: 2, width: 16}]}\n"
                           "scheduler: {name: asha, max_t: 9, promotion: true}\n"
                           "stop: {max_iterations: 10, target: 0.1}\n"
                           "num_samples: 16\n"
                           "env: {A: b}\n"
                           "seed: 1\n";

/* ---- libyaml's own allocations, point "yaml" ---------------------------------------------------------------------- */

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define YAML_FAULTS
void *__libc_malloc(size_t nbytes);
void *__libc_realloc(void *old, size_t nbytes);

static bool armed;
static const void *yaml_base;

static bool yaml_fails(const void *caller)
{
    Dl_info info;
    if (!armed)
        return false;
    armed = false; /* dladdr may allocate */
    bool fails = dladdr(caller, &info) && info.dli_fbase == yaml_base && BASE_FAULT("yaml");
    armed = true;
    return fails;
}

__attribute__((visibility("default"))) void *malloc(size_t nbytes) { return yaml_fails(__builtin_return_address(0)) ? NULL : __libc_malloc(nbytes); }
__attribute__((visibility("default"))) void *realloc(void *old, size_t nbytes) { return yaml_fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, nbytes); }

static void arm(bool on)
{
    Dl_info info;
    if (!yaml_base && dladdr(dlsym(RTLD_DEFAULT, "yaml_parser_parse"), &info)) /* not the address that this program has for it */
        yaml_base = info.dli_fbase;
    armed = on;
}
#else
static void arm(bool on) { (void)on; }
#endif

/* ---- what is tried ------------------------------------------------------------------------------------------------- */

static sweep_node *tree;   /* of the text, for what begins there */
static char *tree_json;
static cadre_space *space; /* of its params */
static char *space_json, *other_json; /* other: of a space that has changed */
static cadre_config *config;
static double point[8];

static int read_yaml(void)
{
    sweep_node *read = NULL;
    int status = sweep_parse_yaml(text, sizeof text - 1, "faults.yaml", &read);
    assert_true(status == CADRE_OK || !read);
    sweep_free(read);
    return status;
}

static int read_json(void)
{
    sweep_node *read = NULL;
    int status = sweep_parse_json(tree_json, "the store", &read);
    assert_true(status == CADRE_OK || !read);
    sweep_free(read);
    return status;
}

static int write_json(void)
{
    json_set_alloc_funcs(base_malloc, free); /* not where jansson reads: 2.14 crashes there (its issue 362) */
    char *json = sweep_tree_json(tree);
    json_set_alloc_funcs(malloc, free);
    if (json)
        assert_string_equal(json, tree_json);
    free(json);
    return json ? CADRE_OK : CADRE_ENOMEM;
}

static int make_sweep(void)
{
    sweep *made = NULL;
    int status = sweep_new(tree, &made);
    assert_true(status == CADRE_OK || !made);
    sweep_close(made);
    return status;
}

static const cadre_param params[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1), CADRE_CHOICE("optimizer", "sgd", "adam"), CADRE_GRID_INT("layers", 1, 2, 4),
                                     CADRE_WHEN("optimizer", "sgd", CADRE_UNIFORM("momentum", 0, 1), CADRE_WHEN_BETWEEN("momentum", 0.5, 1, CADRE_CHOICE_BOOL("nesterov"))),
                                     CADRE_CONSTANT("data", "mnist"), CADRE_END};

static int compile(void)
{
    cadre_space *made = NULL;
    int status = cadre_space_new(params, &made);
    assert_true(status == CADRE_OK || !made);
    cadre_space_free(made);
    return status;
}

static int parse_param(void)
{
    cadre_param param = {0};
    int status = cadre_param_parse("optimizer", "choice('two words', sgd, 3, 0.5, true)", &param);
    if (status == CADRE_OK)
        cadre_param_clear(&param);
    return status;
}

static int make_config(void)
{
    cadre_config *made = NULL;
    int status = cadre_space_config(space, point, 1, &made);
    assert_true(status == CADRE_OK || !made);
    cadre_config_free(made);
    return status;
}

static int find_point(void)
{
    double x[8];
    int status = cadre_space_point(space, config, x);
    if (status == CADRE_OK)
        assert_memory_equal(x, point, (size_t)cadre_space_count(space) * sizeof *x);
    return status;
}

static int describe(void)
{
    json_set_alloc_funcs(base_malloc, free);
    char *json = cadre_space_to_json(space), *distribution = json ? cadre_dim_distribution(cadre_space_dim(space, 1)) : NULL;
    json_set_alloc_funcs(malloc, free);
    bool made = json && distribution;
    if (json)
        assert_string_equal(json, space_json);
    free(json);
    free(distribution);
    return made ? CADRE_OK : CADRE_ENOMEM;
}

static int compare(void)
{
    char *changes = NULL;
    int status = cadre_space_changes(space, other_json, &changes);
    assert_true(status == CADRE_OK ? changes != NULL : changes == NULL);
    free(changes);
    return status;
}

/* ---- the nth fails, then from the nth on --------------------------------------------------------------------------- */

/* Answers how many there were. */
static int fail_each(const char *point_name, int (*call)(void))
{
    int n = 1, once = 0, status = CADRE_ENOMEM;
    for (int from_then = 0; from_then < 2; from_then++)
        for (n = 1, status = CADRE_ENOMEM; status != CADRE_OK; n++, once += !from_then) {
            char spec[64];
            snprintf(spec, sizeof spec, "%s:%d%s:oom", point_name, n, from_then ? "+" : "");
            base_fault_set(spec);
            arm(true);
            status = call();
            arm(false);
            base_fault_set(NULL);
            if (status != CADRE_OK && (status != CADRE_ENOMEM || !strstr(cadre_error_message(), "memory")))
                fail_msg("%s: %s: %s", spec, cadre_status_name(status), cadre_error_message());
            assert_true(n < 20000);
        }
    return once - 1;
}

static void every_allocation_of_a_sweep(void **state)
{
    (void)state;
    static int (*const calls[])(void) = {read_yaml, read_json, write_json, make_sweep};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        print_message("%d allocations failed\n", fail_each("alloc", calls[i]));
#if defined(YAML_FAULTS)
    const char *preloaded = getenv("LD_PRELOAD");
    if (preloaded && strstr(preloaded, "vgpreload")) /* valgrind's malloc is in ours' place */
        return;
    int failed = fail_each("yaml", read_yaml);
    print_message("%d allocations of libyaml failed\n", failed);
    assert_true(failed > 10);
#endif
}

static void every_allocation_of_a_space(void **state)
{
    (void)state;
    static int (*const calls[])(void) = {compile, parse_param, make_config, find_point, describe, compare};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        print_message("%d allocations failed\n", fail_each("alloc", calls[i]));
}

static int make_all(void **state)
{
    const cadre_param others[] = {CADRE_LOGUNIFORM("lr", 1e-3, 1), CADRE_CHOICE("optimizer", "sgd", "lion"), CADRE_RANDINT("width", 1, 9), CADRE_END};
    cadre_space *other = NULL;
    (void)state;
    int status = sweep_parse_yaml(text, sizeof text - 1, "faults.yaml", &tree);
    if (status == CADRE_OK)
        status = cadre_space_new(params, &space);
    if (status == CADRE_OK) {
        cadre_space_sample(space, 1, 1, point);
        status = cadre_space_config(space, point, 1, &config);
    }
    tree_json = status == CADRE_OK ? sweep_tree_json(tree) : NULL;
    space_json = status == CADRE_OK ? cadre_space_to_json(space) : NULL;
    if (status == CADRE_OK)
        status = cadre_space_new(others, &other);
    other_json = status == CADRE_OK ? cadre_space_to_json(other) : NULL;
    cadre_space_free(other);
    if (status != CADRE_OK)
        print_error("%s\n", cadre_error_message());
    return tree_json && space_json && other_json ? 0 : -1;
}

static int free_all(void **state)
{
    (void)state;
    cadre_config_free(config);
    cadre_space_free(space);
    sweep_free(tree);
    free(tree_json);
    free(space_json);
    free(other_json);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_sweep),
        cmocka_unit_test(every_allocation_of_a_space),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}
