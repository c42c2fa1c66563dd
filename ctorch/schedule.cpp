/* Learning-rate schedules: plain functions of the step. */
#include <ctorch.h>

#include <algorithm>
#include <cmath>

namespace {

constexpr double pi = 3.14159265358979323846;

/* Half a cosine from `start` to `end` as part goes from 0 to 1. */
double cosine(double start, double end, double part) { return end + (start - end) / 2 * (std::cos(pi * part) + 1); }

} // namespace

double ct_lr_step(double base, int64_t step, int64_t step_size, double gamma)
{
    return step_size > 0 ? base * std::pow(gamma, static_cast<double>(std::max<int64_t>(step, 0) / step_size)) : base;
}

double ct_lr_multi_step(double base, int64_t step, const int64_t *milestones, size_t count, double gamma)
{
    size_t passed = 0;
    while (milestones && passed < count && milestones[passed] <= step)
        passed++;
    return base * std::pow(gamma, static_cast<double>(passed));
}

double ct_lr_linear(double base, int64_t step, int64_t total, double end_factor)
{
    if (total <= 0)
        return base * end_factor;
    const double part = static_cast<double>(std::clamp<int64_t>(step, 0, total)) / static_cast<double>(total);
    return base * (1 + (end_factor - 1) * part);
}

double ct_lr_cosine(double base, int64_t step, int64_t warmup, int64_t total, double lr_min)
{
    step = std::max<int64_t>(step, 0);
    if (step < warmup)
        return base * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (step >= total)
        return lr_min;
    return cosine(base, lr_min, static_cast<double>(step - warmup) / static_cast<double>(total - warmup));
}

double ct_lr_one_cycle(double lr_max, int64_t step, int64_t total, double pct_start)
{
    const double start = lr_max / 25, end = start / 1e4;
    const double rise = (pct_start > 0 ? pct_start : 0.3) * static_cast<double>(total) - 1;
    const double fall = static_cast<double>(total) - 1;
    const double now = std::clamp(static_cast<double>(step), 0.0, std::max(fall, 0.0));
    if (now <= rise)
        return rise > 0 ? cosine(start, lr_max, now / rise) : lr_max;
    return fall > rise ? cosine(lr_max, end, (now - rise) / (fall - rise)) : end;
}
