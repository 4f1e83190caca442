/* SPDX-License-Identifier: MIT
 * contract_mysql.c: the suite over backend = mysql, against the server of QUAY_MYSQL_PORT (on 127.0.0.1), QUAY_MYSQL_USER,
 * QUAY_MYSQL_PASSWORD and QUAY_MYSQL_DB, which is empty. Without them it fails: pytest runs it with a server. */
#include "tests/contract/suite.h"

static char *section(const char *more)
{
    return xasprintf("[store t]\nbackend = mysql\nhost = 127.0.0.1\nport = %s\nuser = %s\ndbname = %s\n%s%s%s%s",
                     need("QUAY_MYSQL_PORT"), need("QUAY_MYSQL_USER"), need("QUAY_MYSQL_DB"),
                     strstr(more, "password") ? "" : "password = ",
                     strstr(more, "password") ? "" : need("QUAY_MYSQL_PASSWORD"), "\n", more);
}

static void run_suite(const char *label, const char *more)
{
    CLEANUP_FREE char *text = section(more);
    suite_over(label, text);
}

static void whole(void)
{
    run_suite("mysql", "");
}

static void with_trouble(void)
{
    run_suite("mysql, fault", "table = Other_Table\nretries = 12\nretry_delay = 1ms\nmax_connections = 3\n"
                                 "fault = every=10,errno=EIO,retry=safe\n");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("table = ro\n"), *ro = section("table = ro\nread_only = yes\n");
    suite_read_only("mysql, readonly", text, ro);
}

static void wrong_password(void)
{
    CLEANUP_FREE char *text = section("password = not-the-password\nretries = 0\n");
    suite_wrong_password("mysql", text, "not-the-password");
}

int main(void)
{
    RUN(whole);
    RUN(with_trouble);
    RUN(refusals);
    RUN(wrong_password);
    return t_done();
}
