/* What is started: a controller by the API, and the trial that a command's controller starts. */
#include "survive.h"

#include "cadre/tuner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPORTS = 9, PAUSE_US = 1000 };

/* A function of config and report alone. */
static double curve(double x, const char *kind, int64_t report)
{
    return (x - 0.3) * (x - 0.3) + (strcmp(kind, "b") == 0 ? 0.1 : 0) + 1.0 / (double)report;
}

/* ---- by the API ---- */

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const survive_kind *kind = user;
    cadre_state *state = NULL;
    int64_t report = 0;
    int status = CADRE_OK;
    if (kind->asha == 2 && (status = cadre_state_new(&state)) == CADRE_OK)
        status = cadre_state_add_int64(state, "report", &report);
    if (status == CADRE_OK && state)
        status = cadre_session_restore(session, state);
    while (status == CADRE_OK && report < REPORTS) {
        usleep(PAUSE_US);
        double value = curve(cadre_config_double(config, "x", 0), cadre_config_string(config, "kind", ""), ++report);
        status = cadre_report(session, CADRE_METRICS({"loss", value, CADRE_REDUCE_NONE, 0}), state);
    }
    cadre_state_free(state);
    return status < 0 ? status : CADRE_OK;
}

int survive_controller(int argc, char **argv)
{
    const cadre_param space[] = {CADRE_UNIFORM("x", -2, 2), CADRE_LOGUNIFORM("lr", 1e-4, 1), CADRE_CHOICE("kind", "a", "b"),
                                 CADRE_WHEN("kind", "b", CADRE_RANDINT("depth", 1, 9)), CADRE_END};
    if (argc != 7)
        return 2;
    const survive_kind *kind = &survive_kinds[atoi(argv[2])];
    cadre_asha_options asha = {.max_t = REPORTS, .reduction_factor = 3, .promotion = kind->asha == 2};
    cadre_trainer trainer = {.train = train, .user = (void *)(uintptr_t)kind, .run = {.name = argv[4], .storage = argv[3]},
                             .scaling = {.num_workers = kind->workers}, .checkpoint = {.keep = 2}};
    cadre_tuner tuner = {.trainer = &trainer, .metric = "loss", .mode = CADRE_MIN, .space = space, .search = {.name = kind->search}, .num_samples = atoi(argv[5]),
                         .cores = kind->slots * kind->workers, .cores_per_trial = kind->workers, .seed = 4,
                         .resume = strcmp(argv[6], "resume") == 0 ? CADRE_TUNE_RESUME : CADRE_TUNE_NEW};
    if (kind->asha)
        tuner.scheduler = (cadre_scheduler){&cadre_scheduler_asha, &asha};
    if (cadre_tuner_fit(&tuner, NULL) == CADRE_OK)
        return 0;
    fprintf(stderr, "survive: %s: %s\n", kind->name, cadre_error_message());
    return 1;
}

/* ---- by the command ---- */

static int descriptor(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : -1;
}

static int read_place(const char *path)
{
    int report = 0;
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%d", &report) != 1)
        report = 0;
    if (file)
        fclose(file);
    return report;
}

static bool save_place(const char *path, int report)
{
    char temporary[1200];
    snprintf(temporary, sizeof temporary, "%s.new", path);
    FILE *file = fopen(temporary, "w");
    if (!file)
        return false;
    fprintf(file, "%d\n", report);
    return fclose(file) == 0 && rename(temporary, path) == 0;
}

/* survive --trial (save|run) X KIND */
int survive_trial(int argc, char **argv)
{
    FILE *answers = fdopen(descriptor("CADRE_CONTROL_FD"), "r");
    const char *directory = getenv("CADRE_CHECKPOINT_DIR");
    char place[1100], line[256];
    if (argc != 5 || !answers || !directory)
        return 2;
    if (fork() == 0) /* what a trial leaves running goes with it */
        for (;;)
            pause();
    bool saves = strcmp(argv[2], "save") == 0;
    snprintf(place, sizeof place, "%s/at", directory);
    for (int report = saves ? read_place(place) + 1 : 1; report <= REPORTS; report++) {
        usleep(PAUSE_US);
        if (saves && !save_place(place, report))
            return 1;
        if (dprintf(descriptor("CADRE_REPORT_FD"), "{\"loss\": %.17g%s}\n", curve(atof(argv[3]), argv[4], report), saves ? ", \"checkpoint\": true" : "") < 0)
            return 1;
        if (!fgets(line, sizeof line, answers) || strncmp(line, "continue", 8) != 0)
            break;
    }
    return 0;
}
