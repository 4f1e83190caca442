/* SPDX-License-Identifier: MIT
 * t_circuit.c: when a store counts as away, with a clock of the test's own. */
#include "backends/circuit.h"

#include "tests/unit/t.h"

#include <errno.h>

#define S 1000000000ULL
#define T0 (1000 * S)

static struct circuit closed(void)
{
    return (struct circuit){.first_ns = S, .max_ns = 30 * S, .hurry_ns = S};
}

static struct circuit opened(void)
{
    struct circuit c = closed();
    CHECK(circuit_note(&c, BLAME_AWAY, T0));
    return c;
}

static enum circuit_blame judge(int r, enum err_retry retry, int status)
{
    struct err e = {.code = -r, .retry = retry, .status = status};
    return circuit_judge(r, &e);
}

static void judging(void)
{
    CHECK_INT(judge(0, ERR_RETRY_NEVER, 0), BLAME_NONE);
    CHECK_INT(judge(-ENOENT, ERR_RETRY_NEVER, 404), BLAME_NONE);
    CHECK_INT(judge(-EACCES, ERR_RETRY_NEVER, 403), BLAME_NONE);
    CHECK_INT(judge(-EINTR, ERR_RETRY_NEVER, 0), BLAME_NONE);
    CHECK_INT(judge(-EHOSTUNREACH, ERR_RETRY_SAFE, 0), BLAME_AWAY);
    CHECK_INT(judge(-ETIMEDOUT, ERR_RETRY_UNKNOWN, 0), BLAME_UNSURE);
    CHECK_INT(judge(-EIO, ERR_RETRY_SAFE, 0), BLAME_UNSURE);   /* the connection broke */
    CHECK_INT(judge(-EIO, ERR_RETRY_SAFE, 503), BLAME_NONE);   /* it said so itself */
    CHECK_INT(judge(-EIO, ERR_RETRY_NEVER, 0), BLAME_NONE);    /* TLS: it is there, but not trusted */
}

static void answers_keep_it_closed(void)
{
    struct circuit c = closed();
    CHECK(!circuit_note(&c, BLAME_NONE, T0));
    CHECK(circuit_admits(&c) && !circuit_wants_prober(&c) && !circuit_probe_due(&c, T0 + 100 * S));
}

static void nobody_there_opens_it(void)
{
    struct circuit c = opened();
    CHECK(!circuit_admits(&c) && circuit_wants_prober(&c));
    CHECK(!circuit_probe_due(&c, T0 + S - 1) && circuit_probe_due(&c, T0 + S));
    CHECK(!circuit_note(&c, BLAME_AWAY, T0 + 1)); /* only once */
    CHECK(!circuit_note(&c, BLAME_NONE, T0 + 2)); /* was on its way already */
    CHECK(!circuit_admits(&c));
}

static void no_answer_is_looked_into(void)
{
    struct circuit c = closed();
    CHECK(!circuit_note(&c, BLAME_UNSURE, T0));
    CHECK(circuit_admits(&c) && circuit_probe_due(&c, T0));
    circuit_probe_begin(&c, T0);
    CHECK(!circuit_probe_due(&c, T0 + S)); /* one at a time */
    CHECK(!circuit_note(&c, BLAME_UNSURE, T0 + 1));
    CHECK_INT(circuit_probe_end(&c, BLAME_NONE, T0 + 2, 0), CIRCUIT_SUSPECT);
    CHECK_INT(c.state, CIRCUIT_CLOSED);

    CHECK(!circuit_note(&c, BLAME_UNSURE, T0 + 3));
    circuit_probe_begin(&c, T0 + 3);
    CHECK_INT(circuit_probe_end(&c, BLAME_UNSURE, T0 + 4, 0), CIRCUIT_SUSPECT);
    CHECK_INT(c.state, CIRCUIT_OPEN);
}

static void a_suspect_may_be_found_away_meanwhile(void)
{
    struct circuit c = closed();
    CHECK(!circuit_note(&c, BLAME_UNSURE, T0));
    circuit_probe_begin(&c, T0);
    CHECK(circuit_note(&c, BLAME_AWAY, T0 + 1));
    CHECK_INT(circuit_probe_end(&c, BLAME_AWAY, T0 + 2, 0), CIRCUIT_OPEN);
    CHECK_INT(c.failed, 1);
}

static void probes_get_rarer(void)
{
    static const uint64_t waits[] = {2, 4, 8, 16, 30, 30};
    struct circuit c = opened();
    uint64_t now = T0 + S;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        CHECK(circuit_probe_due(&c, now));
        circuit_probe_begin(&c, now);
        CHECK_INT(circuit_probe_end(&c, BLAME_AWAY, now, 0), CIRCUIT_OPEN);
        now += waits[i] * S;
        CHECK(!circuit_probe_due(&c, now - 1) && circuit_probe_due(&c, now));
    }
    circuit_probe_begin(&c, now);
    (void)circuit_probe_end(&c, BLAME_AWAY, now, 255);
    CHECK(!circuit_probe_due(&c, now + 37 * S) && circuit_probe_due(&c, now + 38 * S));
}

static void any_answer_of_a_probe_closes_it(void)
{
    struct circuit c = opened();
    circuit_probe_begin(&c, T0 + S);
    CHECK_INT(circuit_probe_end(&c, judge(-EACCES, ERR_RETRY_NEVER, 403), T0 + S, 0), CIRCUIT_OPEN);
    CHECK(circuit_admits(&c) && !circuit_wants_prober(&c));
    CHECK(circuit_note(&c, BLAME_AWAY, T0 + 2 * S)); /* and again */
    CHECK(circuit_probe_due(&c, T0 + 3 * S));        /* as early as the first time */
}

static void who_is_refused_may_hurry_the_probe(void)
{
    struct circuit c = opened();
    CHECK(circuit_hurry(&c, T0 + 1)); /* none was made yet */
    CHECK(circuit_probe_due(&c, T0 + 1));
    circuit_probe_begin(&c, T0 + 1);
    CHECK(!circuit_hurry(&c, T0 + 2));
    (void)circuit_probe_end(&c, BLAME_AWAY, T0 + 3, 0);
    CHECK(!circuit_hurry(&c, T0 + S / 2));
    CHECK(!circuit_probe_due(&c, T0 + S / 2));
    CHECK(circuit_hurry(&c, T0 + S + 2) && circuit_probe_due(&c, T0 + S + 2));
}

int main(void)
{
    RUN(judging);
    RUN(answers_keep_it_closed);
    RUN(nobody_there_opens_it);
    RUN(no_answer_is_looked_into);
    RUN(a_suspect_may_be_found_away_meanwhile);
    RUN(probes_get_rarer);
    RUN(any_answer_of_a_probe_closes_it);
    RUN(who_is_refused_may_hurry_the_probe);
    return t_done();
}
