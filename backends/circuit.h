/* SPDX-License-Identifier: MIT
 * circuit.h: when a store counts as away: the state behind breaker.c, without threads, I/O or clock.
 *
 *   CLOSED   calls go through
 *   SUSPECT  a call had no answer (timeout, broken connection): calls go through, a probe is to tell
 *   OPEN     the store is away: calls are refused, probes are made from time to time
 *
 *   CLOSED  a call finds nobody there -> OPEN; has no answer -> SUSPECT
 *   SUSPECT the probe is answered -> CLOSED; is not, or a call finds nobody there -> OPEN
 *   OPEN    the probe is answered -> CLOSED; is not: the next one after twice the time
 * A call that was on its way when the circuit opened changes nothing: only probes close it. Any answer
 * proves that the store is there, a refusal too.
 *
 * Calls bring the time (`now`, ns of any steady clock), so tests need not wait. Threads: the caller's lock. */
#ifndef QUAY_BACKENDS_CIRCUIT_H
#define QUAY_BACKENDS_CIRCUIT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum circuit_state { CIRCUIT_CLOSED = 0, CIRCUIT_SUSPECT, CIRCUIT_OPEN };

/* What the result of a call says about the store. */
enum circuit_blame {
    BLAME_NONE = 0, /* it answered, or was not asked */
    BLAME_UNSURE,   /* no answer; perhaps only to this call */
    BLAME_AWAY      /* nobody is there */
};

struct circuit {
    uint64_t first_ns, max_ns; /* between probes: at first, at most */
    uint64_t hurry_ns;         /* a call may have a probe made when the last began so long ago */
    enum circuit_state state;
    uint64_t probe_ns;         /* when the next probe is due */
    uint64_t began_ns;         /* when the last one began */
    unsigned failed;           /* probes since it opened */
    bool probing;
};

enum circuit_blame circuit_judge(int r, const struct err *err);

bool circuit_admits(const struct circuit *c);
/* A call that was admitted has ended so. True when the circuit has opened just now. */
bool circuit_note(struct circuit *c, enum circuit_blame blame, uint64_t now);
/* Is somebody needed who probes? */
bool circuit_wants_prober(const struct circuit *c);
bool circuit_probe_due(const struct circuit *c, uint64_t now);
void circuit_probe_begin(struct circuit *c, uint64_t now);
/* `spread` 0..255 makes the wait up to a quarter longer. Returns the state that it left. */
enum circuit_state circuit_probe_end(struct circuit *c, enum circuit_blame blame, uint64_t now,
                                     unsigned spread);
/* A call was refused: true when a probe is due now on its account. */
bool circuit_hurry(struct circuit *c, uint64_t now);

#endif
