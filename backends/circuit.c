/* SPDX-License-Identifier: MIT
 * circuit.c: see circuit.h. Invariants: (1) probe_ns means something only while the circuit is not
 * CLOSED and not probing; (2) `failed` is 0 unless it is OPEN. */
#include "backends/circuit.h"

#include <assert.h>
#include <errno.h>

/* An HTTP status is an answer; network failures of unclear kind are EIO that may be repeated. */
enum circuit_blame circuit_judge(int r, const struct err *err)
{
    switch (-r) {
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ECONNREFUSED:
        return BLAME_AWAY;
    case ETIMEDOUT:
        return BLAME_UNSURE;
    case EIO:
    case ECONNRESET:
        return err->status == 0 && err->retry != ERR_RETRY_NEVER ? BLAME_UNSURE : BLAME_NONE;
    default:
        return BLAME_NONE;
    }
}

bool circuit_admits(const struct circuit *c)
{
    return c->state != CIRCUIT_OPEN;
}

static void open_circuit(struct circuit *c, uint64_t now)
{
    c->state = CIRCUIT_OPEN;
    c->failed = 0;
    c->probe_ns = now + c->first_ns;
}

bool circuit_note(struct circuit *c, enum circuit_blame blame, uint64_t now)
{
    if (c->state == CIRCUIT_OPEN || blame == BLAME_NONE)
        return false;
    if (blame == BLAME_AWAY) {
        open_circuit(c, now);
        return true;
    }
    if (c->state == CIRCUIT_CLOSED) {
        c->state = CIRCUIT_SUSPECT;
        c->probe_ns = now;
    }
    return false;
}

bool circuit_wants_prober(const struct circuit *c)
{
    return c->state != CIRCUIT_CLOSED;
}

bool circuit_probe_due(const struct circuit *c, uint64_t now)
{
    return c->state != CIRCUIT_CLOSED && !c->probing && now >= c->probe_ns;
}

void circuit_probe_begin(struct circuit *c, uint64_t now)
{
    assert(!c->probing);
    c->probing = true;
    c->began_ns = now;
}

static uint64_t wait_ns(const struct circuit *c, unsigned spread)
{
    uint64_t ns = c->first_ns;
    for (unsigned i = 0; i < c->failed && ns < c->max_ns; i++)
        ns *= 2;
    ns = ns < c->max_ns ? ns : c->max_ns;
    return ns + ns / 4 * spread / 255;
}

enum circuit_state circuit_probe_end(struct circuit *c, enum circuit_blame blame, uint64_t now,
                                     unsigned spread)
{
    enum circuit_state was = c->state;
    c->probing = false;
    if (blame == BLAME_NONE) {
        c->state = CIRCUIT_CLOSED;
        c->failed = 0;
    } else if (was == CIRCUIT_OPEN) {
        c->failed++;
        c->probe_ns = now + wait_ns(c, spread);
    } else {
        open_circuit(c, now);
    }
    return was;
}

bool circuit_hurry(struct circuit *c, uint64_t now)
{
    if (c->state != CIRCUIT_OPEN || c->probing || now - c->began_ns < c->hurry_ns)
        return false;
    c->probe_ns = now;
    return true;
}
