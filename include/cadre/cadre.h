/* All of Cadre that needs no libtorch. With it: cadre/ddp.h and ctorch.h. */
#ifndef CADRE_CADRE_H
#define CADRE_CADRE_H

#include "cadre/checkpoint.h"
#include "cadre/collectives.h"
#include "cadre/config.h"
#include "cadre/data.h"
#include "cadre/log.h"
#include "cadre/schedule.h"
#include "cadre/search.h"
#include "cadre/session.h"
#include "cadre/space.h"
#include "cadre/state.h"
#include "cadre/status.h"
#include "cadre/timeline.h"
#include "cadre/trainer.h"
#include "cadre/tuner.h"

#endif
