/* SPDX-License-Identifier: MIT
 * contract_postgres.c: the suite over backend = postgres, against the server of QUAY_PG_DSN (a string or URI of libpq
 * to an empty database; PGPASSWORD may hold the password). Without it it fails: pytest runs it with a server. */
#include "tests/contract/suite.h"

static char *section(const char *more)
{
    return xasprintf("[store t]\nbackend = postgres\ndsn = %s\n%s", need("QUAY_PG_DSN"), more);
}

static void run_suite(const char *label, const char *more)
{
    CLEANUP_FREE char *text = section(more);
    suite_over(label, text);
}

static void whole(void)
{
    run_suite("postgres", "");
}

static void with_trouble(void)
{
    run_suite("postgres, fault", "table = Other_Table\nretries = 12\nretry_delay = 1ms\nmax_connections = 3\n"
                                 "fault = every=10,errno=EIO,retry=safe\n");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("table = ro\n"), *ro = section("table = ro\nread_only = yes\n");
    suite_read_only("postgres, readonly", text, ro);
}

static void wrong_password(void)
{
    CLEANUP_FREE char *text = section("password = not-the-password\nretries = 0\n");
    suite_wrong_password("postgres", text, "not-the-password");
}

int main(void)
{
    RUN(whole);
    RUN(with_trouble);
    RUN(refusals);
    RUN(wrong_password);
    return t_done();
}
