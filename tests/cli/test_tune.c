/* `cadre tune` and its kin end to end, over programs that are a few lines of shell. */
#include "shell.h"
#include "tests/tracking/helpers.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "%s", helpers_directory());
    script("bowl", "cadre report loss=$(awk \"BEGIN { print ($2 - 0.3) ^ 2 }\")\n");
    /* Counts on from what it has saved, four reports in all. */
    script("steps", "at=$(cat $CADRE_CHECKPOINT_DIR/at 2>/dev/null || echo 0)\necho start $at\n"
                    "while [ $at -lt 4 ]; do at=$((at + 1)); echo $at > $CADRE_CHECKPOINT_DIR/at\n"
                    "cadre report loss=$2 step=$at --checkpoint; answer=$?; [ $answer -ne 3 ] || exit 0; done\n");
    /* A process that nobody has waited for yet has ended, too. */
    script("gone", "for i in 1 2 3 4 5 6 7 8 9; do grep -q '^State:.[^ZX]' /proc/$1/status 2>/dev/null || exit 0; sleep 0.1; done; exit 1\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    RUNS(0, "! grep -rls --include='rank*.log' Sanitizer runs"); /* what the relay, a worker, has leaked */
    helpers_remove();
    return 0;
}

#define BOWL "--metric loss --min -j 2 --seed 3 -- ./bowl --lr '~uniform(0, 1)'"

/* ---- one line, and what can be had of it afterwards ---- */

static void test_line(void **state)
{
    (void)state;
    RUNS(0, "cadre tune --name first -n 6 " BOWL);
    assert_int_equal(count("complete"), 7); /* a line a trial, and the summary */
    expect("best: trial ");
    RUNS(0, "cadre best first");
    assert_int_equal(strncmp(output, "--lr 0.", 7), 0);
    RUNS(0, "cadre best first --yaml");
    assert_int_equal(strncmp(output, "lr: 0.", 6), 0);
    RUNS(0, "cadre tune --name words -n 1 --metric loss --min -- ./bowl --lr '~uniform(0, 1)' --No '~choice(yes, no)' && cadre best words --yaml");
    expect("\n\"No\": \""); /* or another reader takes it for false */
    RUNS(0, "cadre best first --json --trial 2");
    json_t *config = json_loads(output, 0, NULL);
    assert_true(json_is_real(json_object_get(config, "lr")));
    json_decref(config);
    RUNS(0, "cadre export first");
    assert_int_equal(count("\n"), 7);
    expect("trial,state,value,reports,started,ended,reason,params.lr,metrics.loss\n0,complete,0.");
    RUNS(0, "cadre export first --format jsonl -o lines && tail -n 1 lines");
    json_t *line = json_loads(output, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(line, "reports")), 1);
    json_decref(line);
    RUNS(0, "cadre export first --to optuna copy.db && cadre show copy.db");
    expect("complete");
    RUNS(1, "cadre export first --to optuna copy.db");
    RUNS(1, "cadre tune --name first -n 6 " BOWL);
    expect("has 6 trials already: go on with \"cadre resume first\"");
    RUNS(0, "cadre resume first -n 2 --quiet && cadre ls");
    expect("first\tended\t0\t8\t0\t0\tloss");
    RUNS(2, "cadre rm first < /dev/null");
    RUNS(0, "cadre rm first --yes && cadre rm words --yes && ls runs");
    assert_string_equal(output, "");
}

/* The same seed gives the same trials, whatever is found on the way. */
static void test_seed(void **state)
{
    (void)state;
    RUNS(0, "for i in a b; do cadre tune --name $i -n 14 --metric loss --min --search tpe -j 1 --seed 5 --quiet -- ./bowl --lr '~uniform(0, 1)' || exit 1; "
            "cadre export $i | cut -d, -f1-4,8 > $i; done; cmp a b");
    assert_string_equal(output, "");
}

/* Samples of a grid are walks. */
static void test_grid(void **state)
{
    (void)state;
    RUNS(0, "cadre tune --name once --metric loss --min -- ./bowl --lr '~grid(0.1, 0.2, 0.3)'");
    expect("3 trials in");
    RUNS(0, "cadre tune --name grid -n 2 --metric loss --min -- ./bowl --lr '~grid(0.1, 0.2, 0.3)' && cadre resume grid -n 1");
    expect("6 trials in");
    expect("9 trials in");
    RUNS(0, "cadre tune --name searched -n 2 --metric loss --min --search grid -- ./bowl --lr '~grid(0.1, 0.2, 0.3)'");
    expect("6 trials in");
}

/* ---- exit codes, and what CI gets ---- */

static void test_exit_codes(void **state)
{
    (void)state;
    RUNS(2, "cadre tune");
    RUNS(2, "cadre tune --metric loss --min -- ./bowl '--lr=~uniform(0,1)'");
    RUNS(2, "cadre tune nothere.yaml");
    RUNS(2, "cadre tune --name a --metric loss --min -- ./nothere '--lr=~uniform(0,1)'");
    expect("the command ./nothere");
    RUNS(2, "touch plain; cadre tune --name a --metric loss --min -- ./plain 'lr~uniform(0,1)'");
    expect("cannot be executed");
    RUNS(2, "cadre tune --name a --metric loss --min -- no-such-program-here 'lr~uniform(0,1)'");
    expect("is not there (looked along PATH)");
    RUNS(0, "test ! -e runs"); /* nothing of these was begun */
    RUNS(3, "cadre tune --name never -n 2 --metric accuracy --max --junit never.xml -- ./bowl --lr '~uniform(0, 1)'");
    expect("the trial never reported the metric \"accuracy\"");
    RUNS(3, "cadre tune --name code -n 1 --metric loss --min -- sh -c 'exit 7' '~~uniform' 'x~uniform(0,1)'");
    expect("the command exited with code 7");
    RUNS(3, "cadre tune --name signal -n 1 --metric loss --min -- sh -c 'kill -9 $$' 'x~uniform(0,1)'");
    expect("the command was ended by signal 9");
    RUNS(5, "cadre tune --name fast -n 50 --metric loss --min --fail-fast -j 1 -- false 'x~uniform(0,1)'");
    RUNS(4, "cadre tune --name target -n 3 --fail-above 0 --junit t.xml --summary t.md --quiet " BOWL);
    expect("above 0\n");
    assert_int_equal(count("\n"), 1);
    RUNS(0, "cadre tune --name met -n 3 --fail-above 1 --junit m.xml --quiet " BOWL);
    assert_string_equal(output, "");
    RUNS(0, "cat t.xml t.md");
    expect("<testsuite name=\"target\" tests=\"5\" failures=\"1\" errors=\"0\" skipped=\"0\"");
    expect("**Target missed:**");
    expect("| complete |");
    RUNS(0, "grep -c '<failure message=\"the trial never reported the metric &quot;accuracy&quot;\"' never.xml");
    RUNS(0, "command -v xmllint > /dev/null || exit 0; xmllint --noout never.xml t.xml m.xml");
}

/* ---- stopping early, pausing, going on ---- */

static void test_asha(void **state)
{
    (void)state;
    RUNS(0, "cadre tune --name asha -n 8 --metric loss --min -j 1 --seed 1 --scheduler '{name: asha, max_t: 4, reduction_factor: 2, promotion: true}' "
            "-- ./steps --lr '~uniform(0, 1)'");
    RUNS(0, "cat runs/asha/trial-*/rank0.log");
    assert_true(count("start 0") == 8 && count("start 1") > 0); /* taken up where it stood */
    RUNS(0, "cadre export asha --format jsonl");
    assert_true(count("\"state\":\"complete\"") >= 1 && count("\"state\":\"pruned\"") >= 4);
    assert_int_equal(count("\"trial\":"), 8);
}

/* The report's file of a program that was told to stop, and how it left. */
static void test_leaving(void **state)
{
    (void)state;
    /* Reads its answer and ends; hears only SIGUSR1; hears only SIGTERM; hears nothing. */
    script("polite", "printf '{\"loss\": 1}\\n' >&3; read answer <&4; echo got $answer; [ $answer = stop ] && exit 5\n");
    script("usr1", "trap 'echo usr1; exit 0' USR1; trap '' TERM; printf '{\"loss\": 1}\\n' >&3; while :; do sleep 0.05; done\n");
    script("term", "trap '' USR1; trap 'echo term; exit 0' TERM; printf '{\"loss\": 1}\\n' >&3; while :; do sleep 0.05; done\n");
    script("deaf", "trap '' USR1 TERM; printf '{\"loss\": 1}\\n' >&3; sleep 300 & echo $! > $CADRE_TRIAL_DIR/child; while :; do sleep 0.05; done\n");
    char yaml[600], path[500];
    const char *const names[] = {"polite", "usr1", "term", "deaf"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s.yaml", place, names[i]);
        snprintf(yaml, sizeof yaml, "metric: loss\nmode: min\ncommand: [./%s]\nparams: {x: [0, 1]}\nnum_samples: 1\nstop: {max_iterations: 1}\ngrace: 0.3\n", names[i]);
        assert_ok(base_write_file(path, yaml, strlen(yaml)));
        RUNS(0, "cadre tune %s.yaml", names[i]);
        expect("1 complete, 0 pruned, 0 failed");
    }
    RUNS(0, "cat runs/*/trial-00000/rank0.log");
    expect("got stop");
    expect("usr1");
    expect("term");
    RUNS(0, "./gone $(cat runs/deaf/trial-00000/child)"); /* what it had started has ended, too */
}

/* ---- what programs write that they should not ---- */

static void test_bad_lines(void **state)
{
    (void)state;
    script("noisy", "echo nonsense >&3\nprintf '\\000\\377\\001\\n' >&3\nhead -c 200000 /dev/zero | tr '\\0' a >&3\necho >&3\n"
                    "printf '{\"loss\": 1, \"note\": \"x\"}\\n{\"loss\": 0.5, \"step\": 1}\\n{\"loss\": NaN}\\n{\"loss\": 0.25}' >&3\n");
    RUNS(0, "cadre tune --name noisy -n 1 --metric loss --min -- ./noisy 'x~uniform(0, 1)'");
    expect("loss 0.25 after 3");
    RUNS(0, "cat runs/noisy/trial-00000/rank0.log");
    assert_int_equal(count("warning: report line"), 5);
    expect("report line 3 is ignored: it has more than 65536 bytes");
    expect("step 1 is not after step 1");
    RUNS(1, "cadre report loss=1");
    expect("not in a trial");
    RUNS(2, "cadre report loss");
    RUNS(2, "cadre report step=3");
    RUNS(2, "cadre report loss=x");
}

/* What a program finds in its environment and its arguments. */
static void test_environment(void **state)
{
    (void)state;
    static const char yaml[] = "metric: loss\nmode: min\ncommand: [./env, '{b}', '--a={a}', --gone, '{gone}']\nnum_samples: 1\nenv: {MINE: 007}\n"
                               "params:\n  a: {value: 0.5}\n  b: {value: \"it's\"}\n  c: {value: 3}\n  d: choice(x)\n  e: choice(x, y)\n"
                               "  gone: {uniform: [0, 1], when: {e: y}}\nsearch: {name: random, points: [{e: x}]}\n";
    char path[500];
    script("env", "echo \"$*\"; echo $MINE $CADRE_TRIAL $CADRE_CONFIG; test -d $CADRE_CHECKPOINT_DIR && test -d $CADRE_TRIAL_DIR && cadre report loss=1\n");
    snprintf(path, sizeof path, "%s/env.yaml", place);
    assert_ok(base_write_file(path, yaml, strlen(yaml)));
    RUNS(0, "cadre tune env.yaml");
    RUNS(0, "cat runs/env/trial-00000/rank0.log");
    assert_string_equal(output, "it's --a=0.5 --c 3 --d x --e x\n007 0 {\"a\": 0.5, \"b\": \"it's\", \"c\": 3, \"d\": \"x\", \"e\": \"x\"}\n");
}

/* Values that a shell would make something of reach the program as they are, in words and in a shell's line. */
static void test_hostile_values(void **state)
{
    (void)state;
    static const char *const values[] = {"$(touch pwned)", "`touch pwned`", "; touch pwned #", "' ; touch pwned ; '", "a\nb\n", "-rf", "--", "*", "", " ", "~", "\"\\\"",
                                         "$HOME", "{v1}", "%s%n", "a\\'b", "!x", "\xc3\xbc"};
    enum { COUNT = sizeof values / sizeof *values };
    base_buffer params = {0}, words = {0}, line = {0}, expected = {0}, found = {0};
    char path[500];
    for (int i = 0; i < COUNT; i++) {
        assert_ok(base_buffer_printf(&params, "  v%d: {value: \"", i));
        for (const char *at = values[i]; *at; at++)
            assert_ok(*at == '\n' ? base_buffer_printf(&params, "\\n") : base_buffer_printf(&params, "%s%c", strchr("\"\\", *at) ? "\\" : "", *at));
        assert_ok(base_buffer_printf(&params, "\"}\n"));
        assert_ok(base_buffer_printf(&words, ", '{v%d}', 'x={v%d}'", i, i));
        assert_ok(base_buffer_printf(&line, " {v%d} x={v%d}", i, i));
        assert_ok(base_buffer_append(&expected, values[i], strlen(values[i]) + 1));
        assert_ok(base_buffer_append(&expected, "x=", 2));
        assert_ok(base_buffer_append(&expected, values[i], strlen(values[i]) + 1));
    }
    script("args", "for word; do printf '%s\\0' \"$word\"; done > $CADRE_TRIAL_DIR/args; exec cadre report loss=1\n");
    for (int shell = 0; shell < 2; shell++) {
        base_buffer yaml = {0};
        const char *name = shell ? "shell" : "words";
        assert_ok(base_buffer_printf(&yaml, "metric: loss\nmode: min\n%s%s%s\nnum_samples: 1\nparams:\n%s", shell ? "shell: ./args" : "command: [./args",
                                     shell ? (const char *)line.data : (const char *)words.data, shell ? "" : "]", (const char *)params.data));
        snprintf(path, sizeof path, "%s/%s.yaml", place, name);
        assert_ok(base_write_file(path, yaml.data, yaml.length));
        base_buffer_free(&yaml);
        RUNS(0, "cadre tune %s.yaml", name);
        snprintf(path, sizeof path, "%s/runs/%s/trial-00000/args", place, name);
        found.length = 0;
        assert_ok(base_read_file(path, 1 << 20, &found));
        assert_int_equal(found.length, expected.length);
        assert_memory_equal(found.data, expected.data, expected.length);
    }
    RUNS(0, "find . -name pwned");
    assert_string_equal(output, "");
    base_buffer *all[] = {&params, &words, &line, &expected, &found};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        base_buffer_free(all[i]);
}

/* ---- interrupted and killed ---- */

static pid_t begin(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static pid_t begin(const char *fmt, ...)
{
    char words[1024], command[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof words, fmt, args);
    va_end(args);
    snprintf(command, sizeof command, "cd '%s' && PATH=\"$(dirname '%s'):$PATH\" && exec %s > log 2>&1", place, getenv("CADRE_CLI"), words);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

static int finish(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Until so many trials have begun. */
static void wait_for_trial(int number)
{
    char path[500];
    snprintf(path, sizeof path, "%s/runs/slow/trial-%05d/pid", place, number);
    for (int i = 0; i < 1000 && !base_exists(path); i++)
        base_sleep_ns(10000000);
    assert_true(base_exists(path));
}

#define SLOW "cadre tune --name slow -n 6 --metric loss --min -j 2 --seed 2 -- ./slow --lr '~uniform(0, 1)'"

static void make_slow(void)
{
    script("slow", "echo $$ > $CADRE_TRIAL_DIR/pid; at=$(cat $CADRE_CHECKPOINT_DIR/at 2>/dev/null || echo 0)\nwhile [ $at -lt 3 ]; do sleep 0.1\n"
                   "at=$((at + 1)); echo $at > $CADRE_CHECKPOINT_DIR/at; cadre report loss=$2 --checkpoint; answer=$?; [ $answer -ne 3 ] || exit 0; done\n");
}

static void check_slow(void)
{
    RUNS(0, "cadre resume slow --quiet && cadre export slow | cut -d, -f1-2,8 > again");
    RUNS(0, "cadre tune --name calm -n 6 --metric loss --min -j 1 --seed 2 --quiet -- ./slow --lr '~uniform(0, 1)' && cadre export calm | cut -d, -f1-2,8 | diff - again");
    RUNS(0, "cat runs/slow/trial-*/pid | while read pid; do ./gone $pid || exit 1; done");
    RUNS(0, "command -v sqlite3 > /dev/null || { echo ok; exit 0; }; sqlite3 runs/slow/cadre.db 'pragma integrity_check'");
    assert_string_equal(output, "ok\n");
}

static void test_interrupted(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1}; /* of people, of services and spot machines, of batch systems */
    make_slow();
    pid_t pid = begin(SLOW);
    for (int i = 0; i < 3; i++) {
        if (i > 0) {
            RUNS(0, "rm -f runs/slow/trial-*/pid");
            pid = begin("cadre resume slow");
        }
        RUNS(0, "until ls runs/slow/trial-*/pid; do sleep 0.02; done");
        kill(pid, signals[i]);
        assert_int_equal(finish(pid), 130);
        RUNS(0, "cat log");
        expect("interrupted; go on with \"cadre resume slow\"");
        RUNS(0, "cadre show slow --json");
        assert_true(count("\"detail\": \"paused\"") > 0 && count("\"detail\": \"interrupted\"") == 0);
    }
    check_slow();
}

static void test_killed(void **state)
{
    (void)state;
    make_slow();
    pid_t pid = begin(SLOW);
    wait_for_trial(1);
    kill(pid, SIGKILL);
    assert_int_equal(finish(pid), -SIGKILL);
    RUNS(0, "cadre show slow; cadre show slow --trial 0");
    expect("lost: the controller ended without a word");
    for (int trial = 2; trial < 5; trial += 2) {
        pid = begin("cadre resume slow");
        wait_for_trial(trial);
        kill(pid, SIGKILL);
        assert_int_equal(finish(pid), -SIGKILL);
    }
    check_slow();
}

/* Failed trials tried again: from what the program kept, or from the beginning; each once a request. */
static void test_errored(void **state)
{
    (void)state;
    script("flaky", "at=$(cat $CADRE_CHECKPOINT_DIR/at 2>/dev/null || echo 0)\necho start $at\n"
                    "while [ $at -lt 4 ]; do at=$((at + 1)); [ $at -ne 3 ] || [ -e mended ] || { printf 'a 1\\rb 2\\033[2J\\r\\n'; exit 9; }\n"
                    "echo $at > $CADRE_CHECKPOINT_DIR/at; cadre report loss=$2 --checkpoint || exit 0; done\n");
#define FLAKY "-n 2 --metric loss --min -j 1 --seed 1 -- ./flaky --lr '~uniform(0, 1)'"
    RUNS(3, "cadre tune --name from " FLAKY);
    expect("the command exited with code 9");
    RUNS(0, "cadre show from --trial 0");
    expect("failed: rank 0 on ");
    expect(", exit code 9: rank 0: the command exited with code 9");
    expect("    b 2?[2J\n"); /* nothing that a terminal would obey */
    RUNS(3, "cadre resume from --errored");
    expect("4 trials in");
    RUNS(3, "cadre resume from --errored --junit red.xml");
    RUNS(0, "cat red.xml"); /* a failed trial and its retries are one test */
    expect("<testsuite name=\"from\" tests=\"3\" failures=\"2\" errors=\"1\" skipped=\"0\"");
    expect("name=\"trial 0: lr=");
    expect("<failure message=\"rank 0: the command exited with code 9\"/><rerunFailure message=\"trial 2: rank 0: the command exited with code 9\" type=\"failed\"/>"
           "<rerunFailure message=\"trial 4: ");
    RUNS(0, "touch mended; cadre resume from --errored --junit green.xml");
    expect("8 trials in");
    expect("2 complete, 0 pruned, 6 failed");
    RUNS(0, "cat green.xml");
    expect("<testsuite name=\"from\" tests=\"3\" failures=\"0\" errors=\"0\" skipped=\"0\"");
    expect("<flakyFailure message=\"trial 0: rank 0: the command exited with code 9\" type=\"failed\"/><flakyFailure message=\"trial 2: ");
    assert_int_equal(count("<testcase "), 3);
    RUNS(0, "cat runs/from/trial-00007/rank0.log");
    assert_string_equal(output, "start 2\n");
    RUNS(0, "rm mended");
    RUNS(3, "cadre tune --name anew " FLAKY);
    RUNS(0, "touch mended; cadre resume anew --restart-errored");
    expect("4 trials in");
    RUNS(0, "cat runs/anew/trial-00003/rank0.log");
    assert_string_equal(output, "start 0\n");
    RUNS(0, "cadre resume anew --errored");
    expect("4 trials in"); /* all that failed have been tried again and are done */
    RUNS(0, "cadre export from | cut -d, -f1-4");
    expect("7,complete,");
    RUNS(0, "command -v xmllint > /dev/null || exit 0; xmllint --noout red.xml green.xml");
    RUNS(2, "cadre resume anew --errored --restart-errored");
    /* What another program had enqueued and could not be run never began: it took no time. */
    RUNS(0, "command -v sqlite3 > /dev/null || { echo 'time=\"0.000\"><failure message=\"enqueued'; exit 0; }; cadre tune --name odd -n 1 --quiet " BOWL " && "
            "sqlite3 runs/odd/cadre.db \"INSERT INTO trials (trial_id, number, study_id, state) VALUES (2, 1, 1, 'WAITING'); "
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (2, 'fixed_params', '[1]')\" && "
            "cadre resume odd --quiet --junit odd.xml; cat odd.xml");
    expect("time=\"0.000\"><failure message=\"enqueued");
    RUNS(0, "cadre rm from --yes && test ! -e runs/from");
}

/* A time budget is for all lives of a sweep; a new one takes the place of the one under `stop`, too. */
static void test_budget(void **state)
{
    (void)state;
    RUNS(0, "cadre tune --name spent -n 100000 --metric loss --min --stop '{time_budget: 0.4}' -- ./bowl --lr '~uniform(0, 1)'");
    expect("time budget spent");
    RUNS(0, "cadre export spent | wc -l");
    int before = atoi(output);
    RUNS(0, "cadre resume spent");
    expect("cadre: spent has run for ");
    expect("its time budget is 0.4 s in all: no trial goes on (--time-budget TIME gives it a larger one)");
    RUNS(0, "cadre resume spent --quiet");
    assert_string_equal(output, "");
    RUNS(0, "cadre resume spent --time-budget 3");
    assert_int_equal(count("no trial goes on"), 0);
    RUNS(0, "cadre export spent | wc -l");
    assert_true(atoi(output) > before);
}

/* A second controller, and removing what runs. */
static void test_running(void **state)
{
    (void)state;
    make_slow();
    pid_t pid = begin(SLOW);
    wait_for_trial(0);
    RUNS(1, "cadre resume slow");
    expect("is running: pid ");
    RUNS(1, "cadre rm slow --yes");
    expect("is running: pid ");
    RUNS(1, SLOW);
    RUNS(0, "cadre export slow --to optuna live.db");
    kill(pid, SIGTERM);
    assert_int_equal(finish(pid), 130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exit_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_asha, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaving, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_running, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
