/* Mistakes of every kind: each is one line on stderr that names the place, an exit code, and nothing on disk. */
#include "shell.h"
#include "tests/tracking/helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool one_line(void)
{
    const char *end = strchr(output, '\n');
    return strncmp(output, "cadre", 5) == 0 && end && !end[1];
}

#define SWEEP "metric: loss\nmode: min\ncommand: [./ok]\nparams:\n  x: uniform(0, 1)\n"

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "%s", helpers_directory());
    write_file("ok", "#!/bin/sh\ncadre report loss=1\n", 0700);
    write_file("plain", "", 0600);
    write_file("sweep.yaml", SWEEP, 0600);
    write_file("key.yaml", SWEEP "metrik: loss\n", 0600);
    write_file("twice.yaml", SWEEP "metric: loss\n", 0600);
    write_file("gone.yaml", "metric: loss\nmode: min\ncommand: [./gone, 3]\nparams: {x: [1, 2]}\n", 0600);
    write_file("grid.yaml", SWEEP "  y: randint(0, 10000)\n  z: randint(0, 10000)\nsearch: {name: grid, resolution: 2}\n", 0600);
    write_file("condition.yaml", SWEEP "  y: {uniform: [0, 1], when: {z: 1}}\n", 0600);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    helpers_remove();
    return 0;
}

#define ONE  "cadre tune --name a --metric loss --min "
#define LAST " -- ./ok --x '~uniform(0, 1)'"

static const struct {
    const char *line;
    int code;
    const char *message;
} mistakes[] = {
    /* files */
    {"cadre tune nothere.yaml", 2, "open nothere.yaml: No such file"},
    {"mkdir d.yaml; cadre tune d.yaml", 2, "d.yaml is a directory, not a sweep file"},
    {": > e.yaml; cadre tune e.yaml", 2, "e.yaml:1:1: a sweep is a map"},
    {"printf '\\001\\002' > b.yaml; cadre tune b.yaml", 2, "b.yaml:1:1: control characters are not allowed"},
    {"printf '\\377' > b.yaml; cadre tune b.yaml", 2, "b.yaml:1:1: invalid leading UTF-8 octet"},
    {"head -c 1048577 /dev/zero > big.yaml; cadre tune big.yaml", 2, "read big.yaml: larger than the 1048576 bytes allowed"},
    {"head -c 1048570 /dev/zero | tr '\\0' '[' > deep.yaml; cadre tune deep.yaml", 2, "deep.yaml:1:17: nested too deeply"},
    {"cadre tune /dev/zero", 2, "larger than the 1048576 bytes allowed"},
    {"cadre tune ''", 2, "No such file"},
    {"ln -s loop.yaml loop.yaml; cadre tune loop.yaml", 1, "open loop.yaml: Too many levels of symbolic links"},
    {"cadre tune key.yaml", 2, "key.yaml:6:1: unknown key \"metrik\" in a sweep: did you mean \"metric\"?"},
    {ONE "./ok --x '~uniform(0, 1)'", 2, "cadre tune: the command stands after \"--\": cadre tune [options] -- COMMAND"},
    {"cadre tun sweep.yaml", 2, "unknown command \"tun\": did you mean \"tune\"? (see cadre --help)"},
    {"cadre tune sweep.yaml --chek", 2, "cadre tune: unknown option \"--chek\": did you mean \"--check\"?"},
    {"cadre tune sweep.yaml --num-sample=3", 2, "unknown option \"--num-sample\": did you mean \"--num-samples\"?"},
    {"cadre tune sweep.yaml --sideways", 2, "unknown option \"--sideways\" (see"},
    {"{ cat sweep.yaml; seq 5000 | sed 's/.*/  p&: 1/'; } > many.yaml; cadre tune many.yaml --check", 2, "many.yaml:4101:3: a map of more than 4096 keys"},
    {"{ sed '$d' sweep.yaml; echo '  x: ['; seq 20000 | sed 's/$/,/'; echo ']'; } > long.yaml; cadre tune long.yaml --check", 2, "x: a list of 20000 values; 10000 at most"},
    {"cadre tune twice.yaml", 2, "twice.yaml:6:1: the key \"metric\" is there twice"},
    {"cadre tune gone.yaml", 2, "gone.yaml:3:11: the command ./gone: No such file"},
    {"cadre tune grid.yaml", 2, "grid.yaml:8:9: the grid has more than 1000000 combinations"},
    {"cadre tune condition.yaml", 2, "condition.yaml:6:31: condition on z: there is no parameter of that name"},
    {"cadre tune sweep.yaml --search tpo", 2, "--search: there is no searcher \"tpo\"; there are random, grid, tpe"},
    {"cadre tune sweep.yaml --search '{name: tpe, startup: x}'", 2, "--search:1:22: tpe: startup is not a whole number"},
    {"cadre tune sweep.yaml --search '{name: tpe'", 2, "--search:2:1: while parsing a flow mapping"},
    {"cadre tune sweep.yaml --scheduler '{name: asha, max_t: -1}'", 2, "--scheduler:1:21: max_t is -1, less than 0"},
    {"cadre tune sweep.yaml --scheduler ash", 2, "--scheduler: there is no scheduler \"ash\""},
    {"cadre tune sweep.yaml --stop '{goal: 1}'", 2, "--stop:1:2: unknown key \"goal\" in stop"},
    {"cadre tune sweep.yaml --stop 3", 2, "--stop: stop is a map, not a text"},
    {"cadre tune sweep.yaml plain", 2, "unexpected argument \"plain\""},
    {"cadre tune sweep.yaml" LAST, 2, "a sweep file and a command: give one of them"},
    /* one line */
    {"cadre tune", 2, "Name a sweep file, or a command after --"},
    {"cadre tune --metric loss --min" LAST, 2, "name is missing: name the experiment (--name NAME)"},
    {"cadre tune --name a --min" LAST, 2, "metric is missing"},
    {"cadre tune --name a --metric loss" LAST, 2, "mode is missing: max or min (--max, --min)"},
    {ONE "--max" LAST, 2, "--max and --min: give one of them"},
    {ONE "-- ./ok", 2, "the command has no parameter to be searched"},
    {ONE "-- ./ok --x '~uniform(1, 0)'", 2, "~uniform(1, 0): x: low 1 is greater than high 0"},
    {ONE "-- ./ok --x '~loguniform(0, 1)'", 2, "x: a logarithmic scale needs low > 0"},
    {ONE "-- ./ok --x '~quniform(0, 1, 0.3)'", 2, "x: step 0.3 does not divide 0 to 1"},
    {ONE "-- ./ok --x '~choice()'", 2, "x: column 1: choice of nothing"},
    {ONE "-- ./ok --x '~unifrm(0, 1)'", 2, "there is no distribution \"unifrm\""},
    {ONE "-- ./ok '~uniform(0, 1)'", 2, "defines a parameter without a name"},
    {ONE "-- ./ok --x '~uniform(0, 1)' --x '~uniform(0, 1)'", 2, "there is a parameter x already"},
    {ONE "-- ./gone 'x~uniform(0, 1)'", 2, "the command ./gone: No such file"},
    {ONE "-- ./plain 'x~uniform(0, 1)'", 2, "the command ./plain cannot be executed"},
    {ONE "-- /tmp 'x~uniform(0, 1)'", 2, "the command /tmp is no file"},
    {ONE "-- no-such-program-here 'x~uniform(0, 1)'", 2, "is not there (looked along PATH)"},
    {ONE "-- '' 'x~uniform(0, 1)'", 2, "the command's first word is empty"},
    {ONE "-- \"$(printf 'p\\377')\" 'x~uniform(0, 1)'", 2, "is not UTF-8"},
    {"cadre tune --name a/b --metric loss --min" LAST, 2, "--name: name \"a/b\": use up to 100 letters"},
    {"cadre tune --name .. --metric loss --min" LAST, 2, "--name: name \"..\": use up to"},
    {"cadre tune --name '' --metric loss --min" LAST, 2, "--name: name is a text, not empty"},
    {"cadre tune --name \"$(printf 'a\\nb')\" --metric loss --min" LAST, 2, "--name: name \"a b\": use up to"},
    {ONE "-n 0" LAST, 2, "-n: num_samples is 0: give 1 or more, or -1 for no limit"},
    {ONE "-n -5" LAST, 2, "-n: num_samples is -5, not in -1 to"},
    {ONE "-n -1" LAST, 2, "num_samples is -1 and nothing would ever end the sweep"},
    {ONE "-n many" LAST, 2, "-n: num_samples is a whole number, not \"many\""},
    {ONE "-n ''" LAST, 2, "-n: num_samples is a whole number, not empty"},
    {ONE "-n 99999999999999999999" LAST, 2, "-n: num_samples is a whole number"},
    {ONE "-j 0" LAST, 2, "-j: max_concurrent is 0, not in 1 to 100000"},
    {ONE "--cores 100000" LAST, 2, "--cores: a trial takes 100000 cores, but there are"},
    {ONE "--gpus 100000" LAST, 2, "--gpus: a trial takes 100000 GPUs, but there are"},
    {ONE "--seed x" LAST, 2, "--seed: seed is a whole number, not \"x\""},
    {ONE "--time-budget soon" LAST, 2, "--time-budget: time_budget is a time"},
    {ONE "--fail-below nan" LAST, 2, "--fail-below needs a number, not \"nan\""},
    {ONE "--fail-above ''" LAST, 2, "--fail-above needs a number, not \"\""},
    {ONE "--storage ''" LAST, 2, "--storage: storage is a text, not empty"},
    {ONE "--storage /proc/nothing" LAST, 1, "storage \"/proc/nothing\": make the directory"},
    {ONE "--storage plain" LAST, 1, "it is there, but is no directory"},
    {ONE "--junit /nothing/x.xml" LAST, 2, "cannot write /nothing/x.xml: No such file"},
    {ONE "--summary ." LAST, 2, "cannot write .: Is a directory"},
    {ONE "--bogus" LAST, 2, "unknown option \"--bogus\""},
    {ONE "--seed", 2, "--seed"},
    /* the others */
    {"cadre", 2, NULL},
    {"cadre nothing", 2, "unknown command \"nothing\""},
    {"cadre --nothing", 2, "unknown option \"--nothing\""},
    {"cadre resume", 2, "which run?"},
    {"cadre resume nothing", 1, "no run \"nothing\": neither runs/nothing/cadre.db nor nothing/cadre.db is there"},
    {"cadre resume nothing -n 0", 2, "-n needs a whole number of at least 1"},
    {"cadre resume a b", 2, "unexpected argument \"b\""},
    {"cadre show nothing", 1, "no run \"nothing\""},
    {"cadre show plain", 1, "plain"},
    {"cadre best nothing", 1, "no run \"nothing\""},
    {"cadre best nothing --json --yaml", 2, "give one of them"},
    {"cadre export nothing", 1, "no run \"nothing\""},
    {"cadre export nothing --format xml", 2, "there are csv and jsonl"},
    {"cadre ls nothing", 1, "no runs: nothing: No such file"},
    {"cadre rm nothing --yes", 1, "no run \"nothing\""},
    {"cadre rm . --yes", 1, "no run \".\""},
    {"cadre report loss=1", 1, "not in a trial"},
    {"cadre report loss", 2, "\"loss\" is not METRIC=VALUE"},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        int code = run("%s", mistakes[i].line);
        if (code != mistakes[i].code)
            fail_msg("%s\nexits with %d:\n%s", mistakes[i].line, code, output);
        if (mistakes[i].message && (!one_line() || !strstr(output, mistakes[i].message)))
            fail_msg("%s\nsays:\n%s\nnot in one line: %s", mistakes[i].line, output, mistakes[i].message);
        assert_int_equal(run("test ! -e runs && test ! -e a"), 0);
    }
}

/* Nobody reads, or there is nowhere to write to: the sweep is whole all the same. */
static void test_no_output(void **state)
{
    (void)state;
    assert_int_equal(run("cadre tune --name head -n 8 --metric loss --min" LAST " | head -n 1 > line"), 0);
    assert_int_equal(run("cadre tune --name out -n 8 --metric loss --min" LAST " >&-"), 0);
    assert_int_equal(run("cadre tune --name all -n 8 --metric loss --min" LAST " <&- >&- 2>&-"), 0);
    assert_int_equal(run("cadre tune --name full -n 8 --metric loss --min" LAST " > /dev/full"), 1);
    assert_string_equal(output, "cadre: cannot write to standard output\n");
    assert_int_equal(run("for name in head out all full; do cadre resume $name --quiet && cadre export $name | grep -c complete; done"), 0);
    assert_string_equal(output, "8\n8\n8\n8\n");
}

/* Others' directories, as somebody who is not root sees them. */
static void test_permission(void **state)
{
    (void)state;
    assert_int_equal(run("cadre tune --name mine -n 1 --quiet --metric loss --min" LAST " && mkdir -m 555 closed && chmod 711 . && chmod 755 ok"), 0);
    if (geteuid() != 0 || run("command -v setpriv") != 0)
        return; /* root alone can become somebody else */
#define NOBODY "setpriv --reuid 65534 --regid 65534 --clear-groups "
    if (run(NOBODY "cadre --version") != 0)
        return; /* the program itself is closed to others */
    assert_int_equal(run(NOBODY "cadre show mine"), 1);
    assert_string_equal(output, "cadre: no run \"mine\" that you may read: permission denied\n");
    assert_int_equal(run("chmod 755 runs runs/mine; " NOBODY "cadre show mine"), 1);
    assert_string_equal(output, "cadre: store runs/mine/cadre.db: Permission denied\n");
    assert_int_equal(run(NOBODY "cadre tune --name b --storage closed --metric loss --min" LAST), 1);
    assert_true(one_line() && strstr(output, "make the directory closed/b: Permission denied"));
#undef NOBODY
}

/* What help says there is, is there, and all of it; its examples work. */
static void test_help(void **state)
{
    (void)state;
    static const char *const kinds[] = {"search", "scheduler"};
    for (size_t i = 0; i < 2; i++) {
        char line[200], names[1000];
        snprintf(line, sizeof line, "cadre tune sweep.yaml --%s '?'", kinds[i]);
        assert_int_equal(run("%s", line), 2);
        const char *list = strstr(output, "; there are ");
        assert_non_null(list);
        snprintf(names, sizeof names, "%.900s", list + strlen("; there are "));
        assert_int_equal(run("cadre tune --help"), 0);
        for (char *name = strtok(names, ", \n"); name; name = strtok(NULL, ", \n")) {
            char one[100], last[100];
            snprintf(one, sizeof one, " %s,", name);
            snprintf(last, sizeof last, " %s;", name);
            if (!strstr(output, one) && !strstr(output, last))
                fail_msg("help does not list %s", name);
        }
    }
    write_file("prog", "#!/bin/sh\ncadre report accuracy=0.5 step=5 || exit 0\n", 0700);
    assert_int_equal(run("cadre tune --name first -n 5 --metric accuracy --max --search '{name: tpe, startup: 20}' --scheduler '{name: asha, max_t: 27}' "
                         "--stop '{max_iterations: 10, target: 0.99}' --quiet -- ./prog --lr '~loguniform(1e-4, 1e-1)'"), 0);
    assert_string_equal(output, "");
    assert_int_equal(run("cadre export first -o nowhere/first.csv"), 1);
    assert_string_equal(output, "cadre: cannot write nowhere/first.csv: No such file or directory\n");
    assert_int_equal(run("for c in tune resume best export rm report ls show bench logs info; do cadre $c --help; done | awk 'length($0) > 120' | grep ."), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_output, setup, teardown),
        cmocka_unit_test_setup_teardown(test_help, setup, teardown),
        cmocka_unit_test_setup_teardown(test_permission, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
