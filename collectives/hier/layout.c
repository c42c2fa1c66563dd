/* Which rank is on which host: told by the ranks' cards, so all come to the same answer. */
#include "hier.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static int find_host(const struct hier_layout *layout, const collectives_place *place, int rank)
{
    int g = 0;
    while (g < layout->hosts && !collectives_same_host(place, layout->lead[g], rank))
        g++;
    return g;
}

bool hier_survey(const collectives_place *place, struct hier_layout *layout, char why[COLLECTIVES_WHY])
{
    int last = 0;
    *layout = (struct hier_layout){.in_order = true};
    for (int r = 0; r < place->oob->world; r++) {
        int g = find_host(layout, place, r);
        if (g == SHM_RANKS_MAX || (g < layout->hosts && layout->count[g] == SHM_RANKS_MAX)) {
            snprintf(why, COLLECTIVES_WHY, "made for up to %d hosts of %d ranks", SHM_RANKS_MAX, SHM_RANKS_MAX);
            return false;
        }
        if (g == layout->hosts)
            layout->lead[layout->hosts++] = r;
        layout->in_order = layout->in_order && g >= last;
        layout->count[g]++;
        last = g;
    }
    layout->lanes = layout->most = layout->count[0];
    for (int g = 1; g < layout->hosts; g++) {
        layout->lanes = layout->count[g] < layout->lanes ? layout->count[g] : layout->lanes;
        layout->most = layout->count[g] > layout->most ? layout->count[g] : layout->most;
        layout->begin[g] = layout->begin[g - 1] + layout->count[g - 1];
    }
    return true;
}

int hier_lay_out(hier *h, const collectives_place *place)
{
    int next[SHM_RANKS_MAX];
    memcpy(next, h->layout.begin, sizeof next);
    h->host_of = base_calloc((size_t)h->world, sizeof *h->host_of);
    h->ranks = base_calloc((size_t)h->world, sizeof *h->ranks);
    if (!h->host_of || !h->ranks)
        return CADRE_ENOMEM;
    for (int r = 0; r < h->world; r++) {
        int g = find_host(&h->layout, place, r);
        h->host_of[r] = g;
        if (r == h->rank)
            h->lane = next[g] - h->layout.begin[g];
        h->ranks[next[g]++] = r;
    }
    h->hosts = h->layout.hosts;
    h->lanes = h->layout.lanes;
    h->host = h->host_of[h->rank];
    h->locals = h->layout.count[h->host];
    return CADRE_OK;
}
